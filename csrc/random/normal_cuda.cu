// normal: standard normal numbers from streams, on CUDA. Formulas in normal.h; the CPU twin is normal_cpu.cpp.
//
// Thread map: a thread draws the four numbers of one counter at a time. Seeds and numbers of calls are read on the
// device, so that each replay of a captured graph may draw other numbers.
#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "cuda_launch.cuh"
#include "random/normal_checks.h"

namespace lesioncore {
namespace {

constexpr int kDrawThreads = 128;

__global__ void __launch_bounds__(kDrawThreads)
    normal_kernel(NormalCall call,
                  const int64_t* streams,  // [N, 2]: seed, number of the call
                  float* out) {            // [N, call.numbers]
  const int64_t counters = call.counters(), all = call.streams * counters;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kDrawThreads + threadIdx.x; i < all;
       i += static_cast<int64_t>(gridDim.x) * kDrawThreads) {
    const int64_t stream = i / counters;
    draw_counter(streams + 2 * stream, i - stream * counters, call.numbers, out + stream * call.numbers);
  }
}

void normal_cuda(const Tensor& streams, const Tensor& out) {
  const NormalCall call = check_normal(streams, out);
  const int64_t threads = call.streams * call.counters();
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
