// Argument checks of the operators on volumes [N, D, H, W], one function for each operator; its CPU and its CUDA half
// call it.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "checks.h"
#include "tv/tv.h"

namespace lesioncore {

class TvChecks : public Checks {
 public:
  using Checks::Checks;

  // The reference volume of a call: everything else is held against its device, dtype and shape.
  Shape volume(Argument a) const {
    if (a.tensor.dim() != 4)
      fail(a.name, "has shape ", shape(a.tensor), ", expected 4 dimensions [N, D, H, W]: use [N, 1, H, W] for slices");
    ScalarType type = a.tensor.scalar_type();
    if (type != ScalarType::Float && (type != ScalarType::Double || !a.tensor.is_cpu()))
      fail(a.name, "has dtype ", type_name(type), " on ", device(a.tensor),
           ", expected float32 (or float64 on the CPU): convert it with .to(torch.float32)");
    contiguous(a);
    return {a.tensor.size(0), a.tensor.size(1), a.tensor.size(2), a.tensor.size(3)};
  }

  void mask(Argument a, Argument reference) const {
    same_device(a, reference);
    if (a.tensor.scalar_type() != ScalarType::Bool)
      fail(a.name, "has dtype ", type_name(a.tensor.scalar_type()), ", expected bool: convert it, e.g. mask > 0");
    same_shape(a, reference);
    contiguous(a);
  }

  // One value, or (if `per_stack`) one per stack: returns the element stride, 0 or 1.
  int64_t scalars(Argument a, Argument reference, bool per_stack) const {
    same_device(a, reference);
    same_type(a, reference);
    contiguous(a);
    int64_t stacks = reference.tensor.size(0);
    if (a.tensor.numel() == 1) return 0;
    if (per_stack && a.tensor.dim() == 1 && a.tensor.numel() == stacks) return 1;
    if (per_stack)
      fail(a.name, "has shape ", shape(a.tensor), ", expected [", stacks, "] (one value per stack of '", reference.name,
           "') or one element");
    fail(a.name, "has shape ", shape(a.tensor), ", expected one element");
  }

  // One value per stack, nothing else: outputs of reductions.
  void per_stack(Argument a, Argument reference) const {
    same_device(a, reference);
    same_type(a, reference);
    contiguous(a);
    if (a.tensor.dim() != 1 || a.tensor.numel() != reference.tensor.size(0))
      fail(a.name, "has shape ", shape(a.tensor), ", expected [", reference.tensor.size(0),
           "], one value per stack of '", reference.name, "'");
  }

  // Dual field of a volume: [C, N, D, H, W].
  void dual(Argument a, Argument reference, int64_t components) const {
    same_device(a, reference);
    same_type(a, reference);
    bool same = a.tensor.dim() == 5 && a.tensor.size(0) == components;
    for (int64_t i = 0; same && i < 4; ++i) same = a.tensor.size(i + 1) == reference.tensor.size(i);
    if (!same)
      fail(a.name, "has shape ", shape(a.tensor), ", expected [", components,
           ", N, D, H, W] with [N, D, H, W] = ", shape(reference.tensor), ", the shape of '", reference.name,
           "': make it with dual_like");
    contiguous(a);
  }

  void depth_weight(double value) const {
    if (!std::isfinite(value) || value < 0.0)
      fail("depth_weight", "is ", value, ", expected a finite number >= 0 (0: every slice on its own)");
  }

  // eps of the isotropic TV. Its square must exist in the dtype of the volume, or flat regions would divide 0 by 0.
  void eps(double value, bool isotropic, bool needs_gradient, const Tensor& volume) const {
    if (!std::isfinite(value) || value < 0.0) fail("eps", "is ", value, ", expected a finite number >= 0");
    if (!isotropic || !needs_gradient) return;
    double smallest = volume.scalar_type() == ScalarType::Double ? std::numeric_limits<double>::min()
                                                                 : std::numeric_limits<float>::min();
    if (value * value < smallest)
      fail("eps", "is ", value, ", expected more than ", std::sqrt(smallest),
           ": the gradient of the isotropic TV needs eps > 0, e.g. 1e-3");
  }

  void clip(double value) const {
    if (!(value >= 0.0)) fail("clip", "is ", value, ", expected a number >= 0, or inf for no clipping");
  }

  void iterations(int64_t value) const {
    if (value < 0) fail("iterations", "is ", value, ", expected an integer >= 0");
  }
};

inline Shape check_tv_gradient(const Tensor& x, const Tensor& y, double depth_weight, bool isotropic, double eps,
                               const Tensor& out) {
  TvChecks check("tv_gradient");
  Shape shape = check.volume({"x", x});
  check.like({"y", y}, {"x", x});
  check.like({"out", out}, {"x", x});
  check.depth_weight(depth_weight);
  check.eps(eps, isotropic, true, x);
  check.disjoint({"out", out}, {"x", x});
  check.disjoint({"out", out}, {"y", y});
  return shape;
}

inline Shape check_tv_value(const Tensor& x, const Tensor& y, double depth_weight, bool isotropic, double eps,
                            const Tensor& out) {
  TvChecks check("tv_value");
  Shape shape = check.volume({"x", x});
  check.like({"y", y}, {"x", x});
  check.per_stack({"out", out}, {"x", x});
  check.depth_weight(depth_weight);
  check.eps(eps, isotropic, false, x);
  check.disjoint({"out", out}, {"x", x});
  check.disjoint({"out", out}, {"y", y});
  return shape;
}

struct RestoreStepCall {
  Shape shape;
  int64_t tv_weight_stride;
};

// `target` is what the step writes: `out`, or x itself (named accordingly in messages).
inline RestoreStepCall check_restore_step(const Tensor& x, const Tensor& y, const Tensor& elbo_gradient,
                                          const Tensor& mask, const Tensor& step_size, const Tensor& tv_weight,
                                          const Tensor* out, double clip, double depth_weight, bool isotropic,
                                          double eps) {
  TvChecks check("restore_step_");
  Argument reference{"x", x};
  RestoreStepCall call{check.volume(reference), 0};
  check.like({"y", y}, reference);
  check.like({"elbo_gradient", elbo_gradient}, reference);
  check.mask({"mask", mask}, reference);
  check.scalars({"step_size", step_size}, reference, false);
  call.tv_weight_stride = check.scalars({"tv_weight", tv_weight}, reference, true);
  if (out != nullptr) check.like({"out", *out}, reference);
  check.clip(clip);
  check.depth_weight(depth_weight);
  check.eps(eps, isotropic, true, x);
  Argument target = out != nullptr ? Argument{"out", *out} : reference;
  for (Argument other : {Argument{"y", y}, Argument{"elbo_gradient", elbo_gradient}, Argument{"mask", mask},
                         Argument{"step_size", step_size}, Argument{"tv_weight", tv_weight}})
    check.disjoint(target, other);
  if (out != nullptr) check.disjoint(target, reference);
  return call;
}

struct TvProxCall {
  Shape shape;
  int64_t weight_stride;
  bool coupled;
};

inline TvProxCall check_tv_prox(const Tensor& v, const Tensor& mask, const Tensor& weight, const Tensor& dual,
                                const Tensor& out, double depth_weight, int64_t iterations) {
  TvChecks check("tv_prox_");
  Argument reference{"v", v};
  TvProxCall call{check.volume(reference), 0, false};
  check.mask({"mask", mask}, reference);
  call.weight_stride = check.scalars({"weight", weight}, reference, true);
  check.depth_weight(depth_weight);
  check.iterations(iterations);
  call.coupled = is_coupled(call.shape, depth_weight);
  check.dual({"dual", dual}, reference, call.coupled ? 3 : 2);
  check.like({"out", out}, reference);
  for (Argument output : {Argument{"dual", dual}, Argument{"out", out}})
    for (Argument other : {Argument{"v", v}, Argument{"mask", mask}, Argument{"weight", weight}})
      check.disjoint(output, other);
  check.disjoint({"out", out}, {"dual", dual});
  return call;
}

}  // namespace lesioncore
