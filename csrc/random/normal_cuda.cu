// normal: standard normal numbers of streams. Formulas in normal.h; the CPU twin is normal_cpu.cpp.
//
// Thread map: one thread for four numbers, those of one counter. Seeds and calls are read on the device, so that each
// replay of a graph may draw other numbers.
#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "cuda_launch.cuh"
#include "random/normal.h"
#include "random/normal_checks.h"

namespace lesioncore {
namespace {

constexpr int kDrawThreads = 128;

__global__ void __launch_bounds__(kDrawThreads) normal_kernel(NormalCall call, const int64_t* streams, float* out) {
  const int64_t fours = call.fours(), all = call.streams * fours;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kDrawThreads + threadIdx.x; i < all;
       i += static_cast<int64_t>(gridDim.x) * kDrawThreads) {
    const int64_t stream = i / fours;
    draw_four(streams + 2 * stream, i - stream * fours, call.numbers, out + stream * call.numbers);
  }
}

void normal_cuda(const Tensor& streams, const Tensor& out) {
  const NormalCall call = check_normal(streams, out);
  const int64_t threads = call.streams * call.fours();
  if (threads == 0) return;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>((threads + kDrawThreads - 1) / kDrawThreads, 1 << 20));
  Queue(out).launch(normal_kernel, dim3(blocks), dim3(kDrawThreads), 0, call, data<int64_t>(streams),
                    mutable_data<float>(out));
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CUDA, m) {
  m.impl("normal", TORCH_BOX(&lesioncore::normal_cuda));
}
