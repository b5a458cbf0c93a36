// Access to torch's tensors through its stable ABI: the types' short names, typed pointers to the elements.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>

namespace lesioncore {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

template <typename T>
T* mutable_data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// Null for an argument that was not given.
inline const Tensor* pointer(const std::optional<Tensor>& t) {
  return t ? &*t : nullptr;
}

}  // namespace lesioncore
