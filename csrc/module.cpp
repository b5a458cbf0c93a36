// lesioncore._C: facts about this build, for `lesioncore info`, the host's memory, and the CUDA tv_prox_ emulated for
// tests. It links neither torch nor CUDA and always imports.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>

#include "cpu_level.h"
#include "host_memory.h"
#include "tv_prox_emulation.h"

namespace py = pybind11;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// Arguments as those of lesioncore._ops.tv_prox_, of which only what would leave the arrays is checked here.
std::vector<int> emulate(const Array<float>& v, const Array<bool>& mask, const Array<float>& weight, Array<float> dual,
                         Array<float> out, double depth_weight, bool isotropic, int64_t iterations, int processors,
                         bool falling) {
  if (v.ndim() != 4) throw std::invalid_argument("v: expected [N, D, H, W]");
  const int components = depth_weight > 0.0 && v.shape(1) > 1 ? 3 : 2;
  if (mask.size() != v.size() || out.size() != v.size() || dual.size() != components * v.size() ||
      weight.size() != v.shape(0) || iterations < 0 || processors < 1)
    throw std::invalid_argument("tv_prox_emulated: sizes do not fit");
  return lesioncore::emulate_tv_prox({v.data(), mask.data(), weight.data(), dual.mutable_data(), out.mutable_data(),
                                      v.shape(0), v.shape(1), v.shape(2), v.shape(3), depth_weight, isotropic,
                                      iterations, processors, falling});
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Facts about the native build of lesioncore, the host's memory, and CUDA code emulated for tests.";
  m.def(
      "build_info",
      [] {
        py::dict info;
        info["compiler"] = LC_COMPILER;
        info["flags"] = LC_FLAGS;
        info["build_type"] = LC_BUILD_TYPE;
        info["cpu_levels"] = LC_CPU_LEVELS;
        info["torch_built_with"] = LC_TORCH_VERSION;
        info["torch_abi_target"] = LC_TORCH_TARGET;
        info["cuda_built"] = static_cast<bool>(LC_CUDA_BUILT);
        info["cuda_version"] = LC_CUDA_VERSION;
        info["cuda_architectures"] = LC_CUDA_ARCHITECTURES;
        return info;
      },
      "Compiler, flags, instruction sets and CUDA half of this build, as a dictionary of str and bool.");
  m.def(
      "cpu_level", [] { return lesioncore::cpu_level_name(lesioncore::cpu_level()); },
      "Instruction set the CPU kernels use in this process: 'avx512', 'avx2' or 'baseline'.");
  m.def("keep_freed_memory", &lesioncore::keep_freed_memory, py::arg("keep"),
        "Whether the C library keeps freed host memory for the next allocation (glibc only).");
  using namespace py::literals;
  m.def(
      "tv_prox_emulated", &emulate,
      "The kernels of the CUDA tv_prox_ on the host, slowly: `dual` and `out` in place, float32 C order.\n\n"
      "`processors` is what the device would have; `falling` turns the order of threads and blocks round. Returns the "
      "dual iterations of each launch, 0 for that of the result.",
      "v"_a.noconvert(), "mask"_a.noconvert(), "weight"_a.noconvert(), "dual"_a.noconvert(), "out"_a.noconvert(),
      py::kw_only(), "depth_weight"_a, "isotropic"_a, "iterations"_a, "processors"_a, "falling"_a);
}
