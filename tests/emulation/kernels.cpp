// All CUDA operators, compiled for the host against the headers beside this file: the library `lesioncore_emulated`.
#include "cuda_runtime.h"

// clang-format off
#include "ops.cpp"
#include "tv/tv_gradient_cuda.cu"
#include "tv/restore_step_cuda.cu"
#include "tv/tv_prox_cuda.cu"
#include "maps/maps_cuda.cu"
#include "maps/convolve_cuda.cu"
#include "random/normal_cuda.cu"
// clang-format on

namespace {

// Says how many multiprocessors the device has; returns how many kernels have been launched since the last call.
int64_t device(int64_t processors) {
  const int launches = emulation::launches;
  emulation::processors = static_cast<int>(processors), emulation::launches = 0;
  return launches;
}

}  // namespace

STABLE_TORCH_LIBRARY(lesioncore, m) {
  m.def("device(int processors) -> int");
}

_STABLE_TORCH_LIBRARY_IMPL(lesioncore_emulated, CompositeExplicitAutograd, m, __COUNTER__) {
  m.impl("device", TORCH_BOX(&device));
}
