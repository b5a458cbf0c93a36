// Choice of the row kernels that this processor can run.
#include "host/cpu_level.h"
#include "tv/rows.h"

namespace lesioncore {

#define LC_DECLARE_LEVEL(name)             \
  namespace name {                         \
  extern const RowKernels<float> kFloat;   \
  extern const RowKernels<double> kDouble; \
  }

LC_DECLARE_LEVEL(baseline)
#if defined(LESIONCORE_X86_LEVELS)
LC_DECLARE_LEVEL(avx2)
LC_DECLARE_LEVEL(avx512)
#endif

template <>
const RowKernels<float>& row_kernels<float>() {
  switch (cpu_level()) {
#if defined(LESIONCORE_X86_LEVELS)
    case CpuLevel::kAvx512:
      return avx512::kFloat;
    case CpuLevel::kAvx2:
      return avx2::kFloat;
#endif
    default:
      return baseline::kFloat;
  }
}

template <>
const RowKernels<double>& row_kernels<double>() {
  switch (cpu_level()) {
#if defined(LESIONCORE_X86_LEVELS)
    case CpuLevel::kAvx512:
      return avx512::kDouble;
    case CpuLevel::kAvx2:
      return avx2::kDouble;
#endif
    default:
      return baseline::kDouble;
  }
}

}  // namespace lesioncore
