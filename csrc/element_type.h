// Small helpers of the CPU operators.
#pragma once

#include "checks.h"
#include "tv/rows.h"

namespace lesioncore {

template <typename T>
TvParams<T> tv_params(const Shape& shape, double depth_weight, bool isotropic, double eps) {
  return {static_cast<T>(depth_weight), static_cast<T>(eps) * static_cast<T>(eps), isotropic,
          is_coupled(shape, depth_weight)};
}

// Calls f with a value of the volume's element type.
template <typename F>
void dispatch(const Tensor& volume, const F& f) {
  if (volume.scalar_type() == ScalarType::Double)
    f(double{});
  else
    f(float{});
}

}  // namespace lesioncore
