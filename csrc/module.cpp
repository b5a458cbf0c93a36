// lesioncore._C: facts about this build, for `lesioncore info`, and the host's memory. It links neither torch nor CUDA
// and always imports.
#include <pybind11/pybind11.h>

#include "host/cpu_level.h"
#include "host/freed_memory.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  m.doc() = "Facts about the native build of lesioncore, and the host's memory.";
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
}
