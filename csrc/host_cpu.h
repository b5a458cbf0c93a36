// Small helpers of the CPU operators.
#pragma once

#include "checks.h"
#include "rows.h"

namespace lesioncore {

template <typename T>
TvParams<T> tv_params(const Shape& shape, double depth_weight, bool isotropic, double eps) {
  bool coupled = depth_weight > 0.0 && shape.depth > 1;
  return {static_cast<T>(depth_weight), static_cast<T>(eps) * static_cast<T>(eps), isotropic, coupled};
}

template <typename T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

template <typename T>
T* mutable_data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
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
