// tv_gradient: out = K^T f(K (x - y)); tv_value: out[n] = sum over stack n of tv_term(K (x - y)). Formulas in tv.h; the
// CPU twin is tv_gradient_cpu.cpp.
//
// Boundary: differences across the far edge of an axis are zero, no wrap-around.
// Thread map: the gradient has one thread per pixel in tiles of 32 x 8, which read their neighbours through L1. The
// value has one warp per row, and sums in double by a fixed tree within a block and over the blocks of a stack, without
// atomics, so that every run gives the same bits.
// Bytes per pixel: gradient 8 read + 4 written; value 8 read.
#include <torch/csrc/stable/library.h>

#include "tv/stencil_cuda.cuh"
#include "tv/tv_checks.h"

namespace lesioncore {
namespace {

constexpr int kThreads = kTileWidth * kTileHeight;
constexpr int64_t kBlocksPerStack = 128;

template <bool kIsotropic, bool kCoupled>
__global__ void __launch_bounds__(kThreads) gradient_kernel(Shape s,
                                                            const float* x,  // [N, D, H, W]
                                                            const float* y,  // [N, D, H, W]
                                                            float* out,      // [N, D, H, W]
                                                            float depth_weight, float eps_squared) {
  auto z = [=](int64_t o) { return x[o] - y[o]; };
  for_pixels(s, [&](const Pixel& p, int64_t) {
    out[p.offset] = tv_gradient_at<kIsotropic, kCoupled>(z, p, s, depth_weight, eps_squared);
  });
}

// Sum of the values of all threads of the block, in a fixed order; every thread gets it.
__device__ double sum_of_block(double value) {
  __shared__ double sums[kThreads];
  const int thread = threadIdx.y * kTileWidth + threadIdx.x;
  sums[thread] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (thread < half) sums[thread] += sums[thread + half];
    __syncthreads();
  }
  const double sum = sums[0];
  __syncthreads();  // before the next call writes
  return sum;
}

template <bool kIsotropic, bool kCoupled>
__global__ void __launch_bounds__(kThreads) value_kernel(Shape s,
                                                         const float* x,   // [N, D, H, W]
                                                         const float* y,   // [N, D, H, W]
                                                         double* partial,  // [N, blocks]
                                                         float depth_weight, float eps_squared) {
  auto z = [=](int64_t o) { return x[o] - y[o]; };
  const int64_t rows = s.depth * s.height;
  for (int64_t stack = blockIdx.y; stack < s.stacks; stack += gridDim.y) {
    double sum = 0.0;
    for (int64_t r = static_cast<int64_t>(blockIdx.x) * kTileHeight + threadIdx.y; r < rows;
         r += static_cast<int64_t>(gridDim.x) * kTileHeight) {
      const int64_t slice = r / s.height, row = r - slice * s.height;
      for (int64_t column = threadIdx.x; column < s.width; column += kTileWidth) {
        const Pixel p{(stack * rows + r) * s.width + column, slice, row, column};
        sum += static_cast<double>(
            tv_term<kIsotropic, kCoupled>(forward_differences<kCoupled>(z, p, s, depth_weight), eps_squared));
      }
    }
    sum = sum_of_block(sum);
    if (threadIdx.x == 0 && threadIdx.y == 0) partial[stack * gridDim.x + blockIdx.x] = sum;
  }
}

__global__ void __launch_bounds__(kThreads) total_kernel(int64_t stacks, int64_t blocks,
                                                         const double* partial,  // [N, blocks]
                                                         float* out) {           // [N]
  const int thread = threadIdx.y * kTileWidth + threadIdx.x;
  for (int64_t stack = blockIdx.x; stack < stacks; stack += gridDim.x) {
    double sum = 0.0;
    for (int64_t b = thread; b < blocks; b += kThreads) sum += partial[stack * blocks + b];
    sum = sum_of_block(sum);
    if (thread == 0) out[stack] = static_cast<float>(sum);
  }
}

void tv_gradient_cuda(const Tensor& x, const Tensor& y, double depth_weight, bool isotropic, double eps,
                      const Tensor& out) {
  const Shape shape = check_tv_gradient(x, y, depth_weight, isotropic, eps, out);
  if (shape.numel() == 0) return;
  const Queue queue(x);
  const float weight = static_cast<float>(depth_weight), e = static_cast<float>(eps);
  for_variant(isotropic, is_coupled(shape, depth_weight), [&](auto iso, auto coupled) {
    queue.launch(gradient_kernel<decltype(iso)::value, decltype(coupled)::value>, tile_grid(shape), tile_block(), 0,
                 shape, data<float>(x), data<float>(y), mutable_data<float>(out), weight, e * e);
  });
}

void tv_value_cuda(const Tensor& x, const Tensor& y, double depth_weight, bool isotropic, double eps,
                   const Tensor& out) {
  const Shape shape = check_tv_value(x, y, depth_weight, isotropic, eps, out);
  if (shape.stacks == 0) return;
  const Queue queue(x);
  const float weight = static_cast<float>(depth_weight), e = static_cast<float>(eps);
  const int64_t rows = shape.width == 0 ? 0 : shape.depth * shape.height;
  const int64_t blocks = std::min((rows + kTileHeight - 1) / kTileHeight, kBlocksPerStack);
  const int64_t sizes[] = {shape.stacks, blocks};
  const Tensor partial = torch::stable::new_empty(x, {sizes, 2}, ScalarType::Double);
  if (blocks > 0) {
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(std::min<int64_t>(shape.stacks, 65535)));
    for_variant(isotropic, is_coupled(shape, depth_weight), [&](auto iso, auto coupled) {
      queue.launch(value_kernel<decltype(iso)::value, decltype(coupled)::value>, grid, tile_block(), 0, shape,
                   data<float>(x), data<float>(y), mutable_data<double>(partial), weight, e * e);
    });
  }
  const auto stacks = static_cast<unsigned>(std::min<int64_t>(shape.stacks, 65535));
  queue.launch(total_kernel, dim3(stacks), tile_block(), 0, shape.stacks, blocks, data<double>(partial),
               mutable_data<float>(out));
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CUDA, m) {
  m.impl("tv_gradient", TORCH_BOX(&lesioncore::tv_gradient_cuda));
  m.impl("tv_value", TORCH_BOX(&lesioncore::tv_value_cuda));
}
