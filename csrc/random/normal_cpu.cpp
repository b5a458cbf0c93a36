// normal: standard normal numbers from streams, on the CPU. Formulas in normal.h; the CUDA twin is normal_cuda.cu.
//
// Thread map: each thread takes a range of streams.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "random/normal_checks.h"

namespace lesioncore {
namespace {

void normal_cpu(const Tensor& streams, const Tensor& out) {
  const NormalCall call = check_normal(streams, out);
  if (call.counters() == 0) return;
  const int64_t* stream = data<int64_t>(streams);  // [N, 2]: seed, number of the call
  float* numbers = mutable_data<float>(out);       // [N, call.numbers]
  const int64_t grain = std::max<int64_t>(1, 1024 / call.counters());
  torch::stable::parallel_for(0, call.streams, grain, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      for (int64_t i = 0; i < call.counters(); ++i)
        draw_counter(stream + 2 * s, i, call.numbers, numbers + s * call.numbers);
  });
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CPU, m) {
  m.impl("normal", TORCH_BOX(&lesioncore::normal_cpu));
}
