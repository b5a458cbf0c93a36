// Argument checks that all operators share: device, dtype, shape, layout, overlap. Each failure names the operator, the
// argument, what came, what was expected and what to do; Python sees a RuntimeError. The CPU and the CUDA half of an
// operator make the same checks.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

#include "tensor.h"

namespace lesioncore {

struct Argument {
  const char* name;
  const Tensor& tensor;
};

class Checks {
 public:
  explicit Checks(const char* op) : op_(op) {}

  template <typename... Parts>
  [[noreturn]] void fail(const char* argument, const Parts&... parts) const {
    std::ostringstream message;
    message << "lesioncore::" << op_ << ": argument '" << argument << "' ";
    (message << ... << parts);
    throw std::runtime_error(message.str());
  }

  // Same device, dtype and shape as `reference`.
  void like(Argument a, Argument reference) const {
    same_device(a, reference);
    same_type(a, reference);
    same_shape(a, reference);
    contiguous(a);
  }

  void disjoint(Argument output, Argument other) const {
    const char* first = begin(output.tensor);
    const char* second = begin(other.tensor);
    if (output.tensor.numel() == 0 || other.tensor.numel() == 0) return;
    if (first < second + bytes(other.tensor) && second < first + bytes(output.tensor))
      fail(output.name, "shares memory with '", other.name, "', expected separate memory: pass a clone of one of them");
  }

 protected:
  void same_device(Argument a, Argument reference) const {
    if (a.tensor.is_cpu() != reference.tensor.is_cpu() ||
        a.tensor.get_device_index() != reference.tensor.get_device_index())
      fail(a.name, "is on ", device(a.tensor), ", expected ", device(reference.tensor), ", the device of '",
           reference.name, "': move it with .to(", reference.name, ".device)");
  }

  void same_type(Argument a, Argument reference) const {
    if (a.tensor.scalar_type() != reference.tensor.scalar_type())
      fail(a.name, "has dtype ", type_name(a.tensor.scalar_type()), ", expected ",
           type_name(reference.tensor.scalar_type()), ", the dtype of '", reference.name, "': convert it with .to(",
           reference.name, ".dtype)");
  }

  void same_shape(Argument a, Argument reference) const {
    bool same = a.tensor.dim() == reference.tensor.dim();
    for (int64_t i = 0; same && i < a.tensor.dim(); ++i) same = a.tensor.size(i) == reference.tensor.size(i);
    if (!same)
      fail(a.name, "has shape ", shape(a.tensor), ", expected ", shape(reference.tensor), ", the shape of '",
           reference.name, "'");
  }

  void contiguous(Argument a) const {
    if (!a.tensor.is_contiguous())
      fail(a.name, "is not contiguous (shape ", shape(a.tensor), "), expected C order: pass ", a.name, ".contiguous()");
  }

  static const char* begin(const Tensor& t) { return static_cast<const char*>(t.data_ptr()); }
  static int64_t bytes(const Tensor& t) { return t.numel() * static_cast<int64_t>(t.element_size()); }

  static std::string device(const Tensor& t) {
    if (t.is_cpu()) return "cpu";
    return (t.is_cuda() ? "cuda:" : "device ") + std::to_string(t.get_device_index());
  }

  static std::string type_name(ScalarType type) {
    switch (type) {
      case ScalarType::Float:
        return "float32";
      case ScalarType::Double:
        return "float64";
      case ScalarType::Half:
        return "float16";
      case ScalarType::BFloat16:
        return "bfloat16";
      case ScalarType::Bool:
        return "bool";
      default:
        return torch::headeronly::toString(type);
    }
  }

  static std::string shape(const Tensor& t) {
    std::ostringstream text;
    text << "[";
    for (int64_t i = 0; i < t.dim(); ++i) text << (i ? ", " : "") << t.size(i);
    text << "]";
    return text.str();
  }

 private:
  const char* op_;
};

}  // namespace lesioncore
