// Argument checks of the operators on feature maps, one function for each operator; its CPU and its CUDA half call it.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "checks.h"
#include "maps/maps.h"

namespace lesioncore {

class MapChecks : public Checks {
 public:
  using Checks::Checks;

  // The reference map of a call, with whose device, dtype and number of slices the other arguments must agree.
  MapShape map(Argument a) const {
    const ScalarType type = a.tensor.scalar_type();
    if (type != ScalarType::Float && type != (a.tensor.is_cpu() ? ScalarType::Double : ScalarType::BFloat16))
      fail(a.name, "has dtype ", type_name(type), " on ", device(a.tensor),
           ", expected float32 (or float64 on the CPU, bfloat16 on CUDA)");
    return extent(a);
  }

  // Another map of the call, with as many slices and this number of channels.
  MapShape map(Argument a, Argument reference, int64_t channels) const {
    same_device(a, reference);
    same_type(a, reference);
    const MapShape found = extent(a);
    if (found.count != reference.tensor.size(0) || found.channels != channels)
      fail(a.name, "has shape ", shape(a.tensor), ", expected [", reference.tensor.size(0), ", H, W, ", channels, "]");
    return found;
  }

  // One value for each channel.
  void channels(Argument a, Argument reference, int64_t count) const {
    same_device(a, reference);
    same_type(a, reference);
    contiguous(a);
    if (a.tensor.dim() != 1 || a.tensor.size(0) != count)
      fail(a.name, "has shape ", shape(a.tensor), ", expected [", count, "], one value for each channel");
  }

  // The signs of a map `of` that shape.
  void signs(Argument a, Argument reference, const MapShape& of) const {
    same_device(a, reference);
    if (of.channels % 8 != 0)
      fail(a.name, "belongs to a map of ", of.channels, " channels, expected a multiple of 8: there is a bit for each");
    if (a.tensor.scalar_type() != ScalarType::Byte)
      fail(a.name, "has dtype ", type_name(a.tensor.scalar_type()), ", expected uint8");
    if (a.tensor.dim() != 4 || a.tensor.size(0) != of.count || a.tensor.size(1) != of.height ||
        a.tensor.size(2) != of.width || a.tensor.size(3) != of.channels / 8)
      fail(a.name, "has shape ", shape(a.tensor), ", expected [", of.count, ", ", of.height, ", ", of.width, ", ",
           of.channels / 8, "], a bit for each channel");
    contiguous(a);
  }

  void kernel(Argument a, Argument reference, int64_t outputs, int64_t inputs) const {
    same_device(a, reference);
    same_type(a, reference);
    if (a.tensor.dim() != 4 || a.tensor.size(0) != outputs || a.tensor.size(1) != 3 || a.tensor.size(2) != 3 ||
        a.tensor.size(3) != inputs)
      fail(a.name, "has shape ", shape(a.tensor), ", expected [", outputs, ", 3, 3, ", inputs, "]");
    contiguous(a);
  }

  // A map that is enlarged must be no larger than the result, and may be empty only if that is.
  void enlarges(Argument a, const MapShape& small, const MapShape& large) const {
    const bool empty = small.height == 0 || small.width == 0;
    if (small.height > large.height || small.width > large.width || (empty && large.pixels() > 0))
      fail(a.name, "has ", small.height, " x ", small.width, " pixels, expected at most ", large.height, " x ",
           large.width, " and none missing, since maps are enlarged only");
  }

  // `small` must have the size that a 3 x 3 convolution of stride 2 without a border makes of `large`.
  void halves(Argument a, const MapShape& small, const MapShape& large) const {
    auto half = [](int64_t size) { return size < 3 ? 0 : (size - 1) / 2; };
    if (small.height != half(large.height) || small.width != half(large.width))
      fail(a.name, "has ", small.height, " x ", small.width, " pixels, expected ", half(large.height), " x ",
           half(large.width), ", (size - 1) / 2 along each axis for stride 2");
  }

  // The CUDA kernels read neighbouring channels 16 bytes at a time where they are a multiple of eight. Memory that torch
  // hands out begins at a multiple of that; a view into it may begin anywhere.
  void words(std::initializer_list<Argument> arguments) const {
    for (const Argument& a : arguments)
      if (a.tensor.size(a.tensor.dim() - 1) % 8 == 0 && reinterpret_cast<std::uintptr_t>(begin(a.tensor)) % 16 != 0)
        fail(a.name, "begins at an address that is no multiple of 16 bytes, as a view may, expected one on CUDA: pass ",
             a.name, ".clone()");
  }

  void negative_slope(double value) const {
    if (!std::isfinite(value) || value < 0.0)
      fail("negative_slope", "is ", value, ", expected a finite number >= 0, so that signs pass the activation");
  }

 private:
  MapShape extent(Argument a) const {
    if (a.tensor.dim() != 4)
      fail(a.name, "has shape ", shape(a.tensor), ", expected 4 dimensions [N, H, W, C], channels last");
    contiguous(a);
    const MapShape found{a.tensor.size(0), a.tensor.size(1), a.tensor.size(2), a.tensor.size(3)};
    // The kernels count in 32 bits within a slice and along each axis.
    if (found.height * found.width * found.channels > std::numeric_limits<int32_t>::max())
      fail(a.name, "has shape ", shape(a.tensor), ", expected slices of less than 2^31 elements");
    return found;
  }
};

inline MapShape check_activate(const Tensor& x, const Tensor* bias, const Tensor* skip, double negative_slope,
                               const Tensor& signs) {
  MapChecks check("activate_");
  const Argument reference{"x", x};
  const MapShape s = check.map(reference);
  check.signs({"signs", signs}, reference, s);
  check.negative_slope(negative_slope);
  if (bias != nullptr) check.channels({"bias", *bias}, reference, s.channels);
  if (skip != nullptr) {
    check.enlarges({"skip", *skip}, check.map({"skip", *skip}, reference, s.channels), s);
    check.disjoint(reference, {"skip", *skip});
  }
  return s;
}

inline MapShape check_activation_gradient(const Tensor& gradient, const Tensor& signs, double negative_slope,
                                          const Tensor& out) {
  MapChecks check("activation_gradient");
  const Argument reference{"gradient", gradient};
  const MapShape s = check.map(reference);
  check.signs({"signs", signs}, reference, s);
  check.negative_slope(negative_slope);
  check.like({"out", out}, reference);
  check.disjoint({"out", out}, reference);
  return s;
}

struct EnlargeCall {
  MapShape small, large;
};

inline EnlargeCall check_enlarge(const Tensor& x, const Tensor& out) {
  MapChecks check("enlarge");
  const Argument reference{"x", x};
  const MapShape small = check.map(reference), large = check.map({"out", out}, reference, small.channels);
  check.enlarges(reference, small, large);
  check.disjoint({"out", out}, reference);
  return {small, large};
}

inline EnlargeCall check_enlarge_adjoint(const Tensor& gradient, const Tensor* signs, const Tensor* out_signs,
                                         double negative_slope, const Tensor& out) {
  MapChecks check("enlarge_adjoint");
  const Argument reference{"gradient", gradient};
  const MapShape large = check.map(reference), small = check.map({"out", out}, reference, large.channels);
  check.enlarges({"out", out}, small, large);
  check.negative_slope(negative_slope);
  if (signs != nullptr) check.signs({"signs", *signs}, reference, large);
  if (out_signs != nullptr) check.signs({"out_signs", *out_signs}, reference, small);
  check.disjoint({"out", out}, reference);
  return {small, large};
}

struct ConvolveCall {
  MapShape x, skip, out;
  bool enlarges;
};

inline ConvolveCall check_convolve(const Tensor& x, const Tensor* signs, const Tensor& weight, const Tensor* bias,
                                   const Tensor* skip, int64_t stride, double negative_slope, const Tensor& out,
                                   const Tensor* out_signs) {
  MapChecks check("convolve");
  const Argument reference{"x", x}, target{"out", out};
  ConvolveCall call{check.map(reference), {}, {}, false};
  const int64_t outputs = out.dim() == 4 ? out.size(3) : 0;
  call.out = call.skip = check.map(target, reference, outputs);
  check.kernel({"weight", weight}, reference, outputs, call.x.channels);
  if (stride == 2) {
    check.halves(target, call.out, call.x);
  } else if (stride == 1) {
    check.enlarges(reference, call.x, call.out);
    call.enlarges = call.x.height != call.out.height || call.x.width != call.out.width;
  } else {
    check.fail("stride", "is ", stride, ", expected 1 (with a border of zeros) or 2 (without)");
  }
  check.negative_slope(negative_slope);
  if (signs != nullptr) {
    check.signs({"signs", *signs}, reference, call.x);
    if (call.enlarges) check.fail("signs", "is given for a map that is enlarged, expected one or the other");
  }
  if (bias != nullptr) check.channels({"bias", *bias}, reference, outputs);
  if (skip != nullptr) {
    call.skip = check.map({"skip", *skip}, reference, outputs);
    check.enlarges({"skip", *skip}, call.skip, call.out);
    check.disjoint(target, {"skip", *skip});
  }
  if (out_signs != nullptr) check.signs({"out_signs", *out_signs}, reference, call.out);
  check.disjoint(target, reference);
  return call;
}

inline ConvolveCall check_convolve_down_adjoint(const Tensor& gradient, const Tensor& weight, const Tensor& out) {
  MapChecks check("convolve_down_adjoint");
  const Argument reference{"gradient", gradient}, target{"out", out};
  const int64_t inputs = out.dim() == 4 ? out.size(3) : 0;
  ConvolveCall call{check.map(reference), {}, check.map(target, reference, inputs), false};
  check.kernel({"weight", weight}, reference, call.x.channels, inputs);
  check.halves(reference, call.x, call.out);
  check.disjoint(target, reference);
  return call;
}

}  // namespace lesioncore
