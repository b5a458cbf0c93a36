// restore_step_: x += step_size * mask * clamp(elbo_gradient - tv_weight * dTV(x - y)/dx, +-clip)
// (method: Chen et al., MedIA 2020, Eq. 6). Formulas in tv.h.
//
// Boundary: differences across the far edge of an axis are zero, no wrap-around. Pixels outside the mask keep their
// bits.
// Thread map: see sweep_cpu.h, whose rolling window lets x be updated in place; `out` would get the same bits.
// Bytes per pixel (float32): 13 read (x, y, elbo_gradient, mask) + 4 written, in one pass.
#include <torch/csrc/stable/library.h>

#include <optional>

#include "element_type_cpu.h"
#include "tv/sweep_cpu.h"
#include "tv/tv_checks.h"

namespace lesioncore {
namespace {

void restore_step_cpu(const Tensor& x, const Tensor& y, const Tensor& elbo_gradient, const Tensor& mask,
                      const Tensor& step_size, const Tensor& tv_weight, std::optional<Tensor> out, double clip,
                      double depth_weight, bool isotropic, double eps) {
  const RestoreStepCall call = check_restore_step(x, y, elbo_gradient, mask, step_size, tv_weight,
                                                  out ? &*out : nullptr, clip, depth_weight, isotropic, eps);
  const Shape shape = call.shape;
  if (shape.numel() == 0) return;
  for_element_type(x, [&](auto zero) {
    using T = decltype(zero);
    const TvParams<T> tv = tv_params<T>(shape, depth_weight, isotropic, eps);
    const RowKernels<T>& kernels = row_kernels<T>();
    const int64_t stacks_per_n = tv.coupled ? 1 : shape.depth;
    const Volume<T> volume{data<T>(x),   data<T>(y), shape.stacks * stacks_per_n, shape.depth / stacks_per_n,
                           shape.height, shape.width};
    const T* gradient = data<T>(elbo_gradient);
    const uint8_t* inside = data<uint8_t>(mask);
    const T step = *data<T>(step_size);
    const T* weights = data<T>(tv_weight);
    T* target = mutable_data<T>(out ? *out : x);
    Sweep<T>(volume, tv, !out).run([&](int64_t stack, int64_t row, const PaddedFieldRows<T>& field) {
      kernels.restore(tv, field,
                      {volume.x + row, gradient + row, inside + row, target + row, step,
                       weights[stack / stacks_per_n * call.tv_weight_stride], static_cast<T>(clip)},
                      shape.width);
    });
  });
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CPU, m) {
  m.impl("restore_step_", TORCH_BOX(&lesioncore::restore_step_cpu));
}
