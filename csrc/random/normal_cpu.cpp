// normal: standard normal numbers of streams. Formulas in normal.h; the CUDA twin is normal_cuda.cu.
//
// Thread map: ranges of streams.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "random/normal.h"
#include "random/normal_checks.h"

namespace lesioncore {
namespace {

void normal_cpu(const Tensor& streams, const Tensor& out) {
  const NormalCall call = check_normal(streams, out);
  if (call.fours() == 0) return;
  const int64_t* stream = data<int64_t>(streams);
  float* numbers = mutable_data<float>(out);
  const int64_t grain = std::max<int64_t>(1, 1024 / call.fours());
  torch::stable::parallel_for(0, call.streams, grain, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      for (int64_t four = 0; four < call.fours(); ++four)
        draw_four(stream + 2 * s, four, call.numbers, numbers + s * call.numbers);
  });
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CPU, m) {
  m.impl("normal", TORCH_BOX(&lesioncore::normal_cpu));
}
