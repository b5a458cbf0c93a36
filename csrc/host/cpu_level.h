// Instruction set of the CPU kernels: the best that both this build contains and this processor runs.
// LESIONCORE_CPU=baseline|avx2|avx512 asks for a lower one, for tests and measurements; all give the same bits.
#pragma once

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace lesioncore {

enum class CpuLevel { kBaseline, kAvx2, kAvx512 };

inline const char* cpu_level_name(CpuLevel level) {
  switch (level) {
    case CpuLevel::kAvx512:
      return "avx512";
    case CpuLevel::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

inline CpuLevel best_cpu_level() {
#if defined(LESIONCORE_X86_LEVELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return CpuLevel::kAvx512;
  if (__builtin_cpu_supports("avx2")) return CpuLevel::kAvx2;
#endif
  return CpuLevel::kBaseline;
}

inline CpuLevel cpu_level() {
  static const CpuLevel level = [] {
    CpuLevel best = best_cpu_level();
    const char* asked = std::getenv("LESIONCORE_CPU");
    for (CpuLevel lower : {CpuLevel::kBaseline, CpuLevel::kAvx2})
      if (asked != nullptr && std::strcmp(asked, cpu_level_name(lower)) == 0 && lower < best) return lower;
    return best;
  }();
  return level;
}

}  // namespace lesioncore
