// Argument checks of the operator `normal`, called by its CPU and its CUDA half.
#pragma once

#include <cstdint>

#include "checks.h"
#include "random/normal.h"

namespace lesioncore {

struct NormalCall {
  int64_t streams;
  int64_t numbers;  // of each stream

  // Counters of each stream; the last one may give more numbers than are needed.
  LC_INLINE int64_t counters() const { return (numbers + kCounterWords - 1) / kCounterWords; }
};

class NormalChecks : public Checks {
 public:
  NormalChecks() : Checks("normal") {}

  NormalCall call(Argument streams, Argument out) const {
    if (out.tensor.scalar_type() != ScalarType::Float)
      fail(out.name, "has dtype ", type_name(out.tensor.scalar_type()), ", expected float32");
    if (out.tensor.dim() < 1) fail(out.name, "has no dimensions, expected [N, ...]");
    contiguous(out);
    same_device(streams, out);
    const int64_t count = out.tensor.size(0);
    if (streams.tensor.scalar_type() != ScalarType::Long)
      fail(streams.name, "has dtype ", type_name(streams.tensor.scalar_type()), ", expected int64");
    if (streams.tensor.dim() != 2 || streams.tensor.size(0) != count || streams.tensor.size(1) != 2)
      fail(streams.name, "has shape ", shape(streams.tensor), ", expected [", count,
           ", 2]: seed and number of the call for each of '", out.name, "'");
    contiguous(streams);
    return {count, count == 0 ? 0 : out.tensor.numel() / count};
  }
};

inline NormalCall check_normal(const Tensor& streams, const Tensor& out) {
  return NormalChecks().call({"streams", streams}, {"out", out});
}

}  // namespace lesioncore
