// Element type of a tensor on the CPU as a C++ type.
#pragma once

#include "tensor.h"

namespace lesioncore {

// Calls f with a zero of the tensor's element type.
template <typename F>
void for_element_type(const Tensor& tensor, const F& f) {
  if (tensor.scalar_type() == ScalarType::Double)
    f(double{});
  else
    f(float{});
}

}  // namespace lesioncore
