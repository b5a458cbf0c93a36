// Stands in for CUDA's header of that name where a plain C++ compiler compiles the kernels: they run on the host, block
// after block (block.h), for tests on machines without a GPU.
//
// Dynamic shared memory and scratch start as NaN. Alignment, banks and time are not modelled, nor what ptxas makes of the
// code.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cmath>

#include "block.h"

// The operators are those of another library, on the CPU.
#undef STABLE_TORCH_LIBRARY
#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY(ns, m) STABLE_TORCH_LIBRARY_FRAGMENT(lesioncore_emulated, m)
#define STABLE_TORCH_LIBRARY_IMPL(ns, k, m) _STABLE_TORCH_LIBRARY_IMPL(lesioncore_emulated, CPU, m, __COUNTER__)

// There is no device to choose.
namespace torch::stable::accelerator {
struct HostGuard {
  explicit HostGuard(int32_t) {}
};
}  // namespace torch::stable::accelerator
#define DeviceGuard HostGuard

// Memory for results starts as NaN.
namespace torch::stable {
inline Tensor poisoned_new_empty(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes,
                                 std::optional<torch::headeronly::ScalarType> type = std::nullopt) {
  const Tensor found = new_empty(like, sizes, type);
  if (found.numel() > 0) {  // an empty tensor has no memory to point to
    std::memset(found.mutable_data_ptr(), 0xff, static_cast<size_t>(found.numel()) * found.element_size());
  }
  return found;
}
}  // namespace torch::stable
#define new_empty poisoned_new_empty

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static  // of a block; there is one at a time
#define __grid_constant__
#define __launch_bounds__(...)

struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
struct uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}
using std::max;
using std::min;

inline float __uint_as_float(unsigned bits) {
  return bits_of<float>(bits);
}
inline unsigned __float_as_uint(float value) {
  return bits_of<unsigned>(value);
}

namespace emulation {

// What the device pretends to have, and how many kernels it has run.
inline int processors = 132, launches = 0;

// Rounded to ten bits, ties away from zero.
inline float to_tf32(float x) {
  return bits_of<float>((bits_of<unsigned>(x) + 0x1000u) & ~0x1fffu);
}

// mma.sync.m16n8k8 for TF32: c += a b, as the PTX manual has its fragments. Lane l holds a at rows l / 4 and l / 4 + 8,
// columns l % 4 and l % 4 + 4; b at rows l % 4 and l % 4 + 4, column l / 4; c at rows l / 4 and l / 4 + 8, columns
// 2 (l % 4) and the next.
inline void multiply_add(float (&c)[4], const uint4& a, const float2& b) {
  Warp& warp = block().warp();
  const auto& words = shown({a.x, a.y, a.z, a.w, bits_of<unsigned>(b.x), bits_of<unsigned>(b.y)});
  const int lane = block().lane();
  float sums[4];
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4, below = i / 2, column = lane % 4 * 2 + i % 2;
    sums[i] = c[i];
    for (int k = 0; k < 8; ++k) {
      const float left = bits_of<float>(words[row * 4 + k % 4][k / 4 * 2 + below]);
      const float right = bits_of<float>(words[column * 4 + k % 4][4 + k / 4]);
      sums[i] += to_tf32(left) * to_tf32(right);
    }
  }
  block().wait(warp);
  std::copy(sums, sums + 4, c);
}

}  // namespace emulation

inline void __syncthreads() {
  emulation::synchronise_block();
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int lanes) {
  return emulation::from_lane(value, emulation::block().lane() ^ lanes);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, int lanes) {
  const int lane = emulation::block().lane();
  return emulation::from_lane(value, lane < lanes ? lane : lane - lanes);
}
template <typename T>
T __shfl_down_sync(unsigned, T value, int lanes) {
  const int lane = emulation::block().lane();
  return emulation::from_lane(value, lane + lanes < emulation::kLanes ? lane + lanes : lane);
}

// ---- The runtime, as far as the operators use it -------------------------------------------------------------------

using cudaStream_t = void*;
using cudaError_t = int;
constexpr int cudaFuncAttributeMaxDynamicSharedMemorySize = 0, cudaDevAttrMultiProcessorCount = 0,
              cudaMemcpyDeviceToDevice = 0;
#undef STD_CUDA_CHECK
#define STD_CUDA_CHECK(call) static_cast<void>(call)

inline int aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, int, int) {
  return 0;
}
inline cudaError_t cudaDeviceGetAttribute(int* processors, int, int32_t) {
  *processors = emulation::processors;
  return 0;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return 0;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return 0;
}

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  const dim3& blocks = config->gridDim;
  emulation::Block block(config->blockDim, config->dynamicSmemBytes, [&] { kernel(arguments...); });
  emulation::Block::current() = &block;
  ++emulation::launches;
  blockDim = config->blockDim, gridDim = blocks;
  for (unsigned z = 0; z < blocks.z; ++z)
    for (unsigned y = 0; y < blocks.y; ++y)
      for (unsigned x = 0; x < blocks.x; ++x) blockIdx = {x, y, z}, block.run();
  return 0;
}

namespace lesioncore {
template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(emulation::block().shared());
}
}  // namespace lesioncore
