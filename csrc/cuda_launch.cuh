// What the CUDA operators share: launches, their geometry, the pixel-wise view of a volume.
//
// These sources are compiled by nvcc, and for tests by a plain C++ compiler against a cuda_runtime.h that runs kernels on
// the host (tests/emulation): so kernels are launched by a function, and what only nvcc knows stands in `__CUDACC__`.
//
// Contraction to fused multiply-add is off in this library (as on the CPU): the bits are those of the CPU kernels. The
// kernels are bound by memory, not arithmetic.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "checks.h"
#include "tv/pixel.h"
#include "tv/tv.h"

namespace lesioncore {

constexpr int kTileWidth = 32;  // threads along a row: one warp reads consecutive pixels
constexpr int kTileHeight = 8;

// A tensor's device, and torch's current stream there.
class Queue {
 public:
  explicit Queue(const Tensor& t) : guard_(t.get_device_index()) {
    void* stream = nullptr;
    // Not torch's macro for it, whose name changed between releases.
    if (aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream) != 0)
      throw std::runtime_error("lesioncore: torch has no current stream of the tensor's CUDA device");
    stream_ = static_cast<cudaStream_t>(stream);
  }

  cudaStream_t stream() const { return stream_; }

  // Starts kernel(arguments...) with this many bytes of dynamic shared memory for each block.
  template <typename... Parameters, typename... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t shared,
              const Arguments&... arguments) const {
    // Above 48 KB shared memory must be asked for; the setting belongs to the kernel, not to a stream.
    if (shared > 48 * 1024)
      STD_CUDA_CHECK(
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks, config.blockDim = threads, config.dynamicSmemBytes = shared, config.stream = stream_;
    STD_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

#if defined(__CUDACC__)
// The dynamic shared memory of this block.
template <typename T>
static __device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char lesioncore_shared[];
  return reinterpret_cast<T*>(lesioncore_shared);
}
#endif

// One thread per pixel of a tile; the grid's y and z are capped by the hardware, the kernels loop over what is left.
inline dim3 tile_grid(const Shape& s) {
  return dim3(static_cast<unsigned>((s.width + kTileWidth - 1) / kTileWidth),
              static_cast<unsigned>(std::min<int64_t>((s.height + kTileHeight - 1) / kTileHeight, 65535)),
              static_cast<unsigned>(std::min<int64_t>(s.stacks * s.depth, 65535)));
}
inline dim3 tile_block() {
  return dim3(kTileWidth, kTileHeight);
}

// Calls f(pixel, stack) for the pixels of this thread.
template <typename F>
__device__ __forceinline__ void for_pixels(const Shape& s, const F& f) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kTileWidth + threadIdx.x;
  if (column >= s.width) return;
  for (int64_t plane = blockIdx.z; plane < s.stacks * s.depth; plane += gridDim.z) {
    const int64_t stack = plane / s.depth, slice = plane - stack * s.depth;
    for (int64_t row = static_cast<int64_t>(blockIdx.y) * kTileHeight + threadIdx.y; row < s.height;
         row += static_cast<int64_t>(gridDim.y) * kTileHeight)
      f(Pixel{(plane * s.height + row) * s.width + column, slice, row, column}, stack);
  }
}

// (K z)(pixel), zero across the far edges. z(offset) reads one value.
template <bool kCoupled, typename T, typename Z>
__device__ __forceinline__ Triple<T> forward_differences(const Z& z, const Pixel& p, const Shape& s, T depth_weight) {
  const T here = z(p.offset);
  Triple<T> k = {p.column + 1 < s.width ? z(p.offset + 1) - here : T(0),
                 p.row + 1 < s.height ? z(p.offset + s.width) - here : T(0), T(0)};
  if constexpr (kCoupled) k.z = p.slice + 1 < s.depth ? depth_weight * (z(p.offset + s.slice()) - here) : T(0);
  return k;
}

// K^T f(K z) at one pixel. The components of f that are not used are not computed.
template <bool kIsotropic, bool kCoupled, typename T, typename Z>
__device__ __forceinline__ T tv_gradient_at(const Z& z, const Pixel& p, const Shape& s, T depth_weight, T eps_squared) {
  auto field = [&](const Pixel& at) {
    return tv_field<kIsotropic, kCoupled>(forward_differences<kCoupled>(z, at, s, depth_weight), eps_squared);
  };
  Triple<T> before = {p.column > 0 ? field(left_of(p)).x : T(0), p.row > 0 ? field(above(p, s)).y : T(0), T(0)};
  if constexpr (kCoupled) before.z = p.slice > 0 ? field(in_front_of(p, s)).z : T(0);
  return adjoint<kCoupled>(before, field(p), depth_weight);
}

// Calls launch(isotropic, coupled) with the two as compile-time constants.
template <typename F>
void for_variant(bool isotropic, bool coupled, const F& launch) {
  auto with_coupling = [&](auto iso) { coupled ? launch(iso, std::true_type{}) : launch(iso, std::false_type{}); };
  isotropic ? with_coupling(std::true_type{}) : with_coupling(std::false_type{});
}

}  // namespace lesioncore
