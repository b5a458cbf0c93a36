// restore_step_: x += step_size * mask * clamp(elbo_gradient - tv_weight * dTV(x - y)/dx, +-clip)
// (method: Chen et al., MedIA 2020, Eq. 6). Formulas in tv.h; the CPU twin is restore_step_cpu.cpp.
//
// Boundary: differences across the far edge of an axis are zero, no wrap-around. Pixels outside the mask keep their
// bits.
// Thread map: one thread per pixel in tiles of 32 x 8. A thread reads the old values of x at neighbouring pixels, which
// other threads replace, so the result goes to `out`; without `out` it goes to a temporary and is copied back (8 bytes
// per pixel more).
// Bytes per pixel: 13 read (x, y, elbo_gradient, mask) + 4 written.
#include <torch/csrc/stable/library.h>

#include <optional>

#include "tv/stencil_cuda.cuh"
#include "tv/tv_checks.h"

namespace lesioncore {
namespace {

template <bool kIsotropic, bool kCoupled>
__global__ void __launch_bounds__(kTileWidth* kTileHeight)
    restore_kernel(Shape s,
                   const float* x,              // [N, D, H, W]
                   const float* y,              // [N, D, H, W]
                   const float* elbo_gradient,  // [N, D, H, W]
                   const bool* mask,            // [N, D, H, W]
                   const float* step_size,      // [1]
                   const float* tv_weight,      // [N] or [1]
                   int64_t tv_weight_stride,    // 1 or 0
                   float* out,                  // [N, D, H, W]
                   float clip, float depth_weight, float eps_squared) {
  auto z = [=](int64_t o) { return x[o] - y[o]; };
  const float step = *step_size;
  for_pixels(s, [&](const Pixel& p, int64_t stack) {
    const float gradient = tv_gradient_at<kIsotropic, kCoupled>(z, p, s, depth_weight, eps_squared);
    out[p.offset] = restore_pixel(x[p.offset], elbo_gradient[p.offset], gradient, mask[p.offset], step,
                                  tv_weight[stack * tv_weight_stride], clip);
  });
}

void restore_step_cuda(const Tensor& x, const Tensor& y, const Tensor& elbo_gradient, const Tensor& mask,
                       const Tensor& step_size, const Tensor& tv_weight, std::optional<Tensor> out, double clip,
                       double depth_weight, bool isotropic, double eps) {
  const RestoreStepCall call = check_restore_step(x, y, elbo_gradient, mask, step_size, tv_weight,
                                                  out ? &*out : nullptr, clip, depth_weight, isotropic, eps);
  const Shape shape = call.shape;
  if (shape.numel() == 0) return;
  const Queue queue(x);
  const float weight = static_cast<float>(depth_weight), e = static_cast<float>(eps);
  const Tensor target = out ? *out : torch::stable::empty_like(x);
  for_variant(isotropic, is_coupled(shape, depth_weight), [&](auto iso, auto coupled) {
    queue.launch(restore_kernel<decltype(iso)::value, decltype(coupled)::value>, tile_grid(shape), tile_block(), 0,
                 shape, data<float>(x), data<float>(y), data<float>(elbo_gradient), data<bool>(mask),
                 data<float>(step_size), data<float>(tv_weight), call.tv_weight_stride, mutable_data<float>(target),
                 static_cast<float>(clip), weight, e * e);
  });
  if (!out)
    STD_CUDA_CHECK(cudaMemcpyAsync(mutable_data<float>(x), data<float>(target), shape.numel() * sizeof(float),
                                   cudaMemcpyDeviceToDevice, queue.stream()));
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CUDA, m) {
  m.impl("restore_step_", TORCH_BOX(&lesioncore::restore_step_cuda));
}
