// Neighbouring channels of a pixel of a feature map in registers, as float32 whatever their type in memory.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "maps/maps.h"

namespace lesioncore {

template <int kCount>
struct Channels {
  float v[kCount];
};

static __device__ __forceinline__ float low_half(unsigned pair) {
  return __uint_as_float(pair << 16);
}
static __device__ __forceinline__ float high_half(unsigned pair) {
  return __uint_as_float(pair & 0xffff0000u);
}
static __device__ __forceinline__ unsigned pair_of(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

// Reads and writes of neighbouring channels, 16 bytes (or all there are) in one instruction. Addresses are aligned
// because the number of channels is a multiple of what is read at a time, and MapChecks::words looked at the first.
template <int kCount>
static __device__ __forceinline__ Channels<kCount> load(const float* from) {
  Channels<kCount> c;
  if constexpr (kCount == 1) {
    c.v[0] = *from;
  } else if constexpr (kCount == 2) {
    const float2 t = *reinterpret_cast<const float2*>(from);
    c.v[0] = t.x, c.v[1] = t.y;
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const float4 t = *reinterpret_cast<const float4*>(from + i);
      c.v[i] = t.x, c.v[i + 1] = t.y, c.v[i + 2] = t.z, c.v[i + 3] = t.w;
    }
  }
  return c;
}

template <int kCount>
static __device__ __forceinline__ Channels<kCount> load(const __nv_bfloat16* from) {
  Channels<kCount> c;
  if constexpr (kCount == 1) {
    c.v[0] = __bfloat162float(*from);
  } else {
    unsigned pairs[kCount / 2];
    if constexpr (kCount == 8) {
      const uint4 t = *reinterpret_cast<const uint4*>(from);
      pairs[0] = t.x, pairs[1] = t.y, pairs[2] = t.z, pairs[3] = t.w;
    } else if constexpr (kCount == 4) {
      const uint2 t = *reinterpret_cast<const uint2*>(from);
      pairs[0] = t.x, pairs[1] = t.y;
    } else {
      pairs[0] = *reinterpret_cast<const unsigned*>(from);
    }
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) c.v[2 * i] = low_half(pairs[i]), c.v[2 * i + 1] = high_half(pairs[i]);
  }
  return c;
}

template <int kCount>
static __device__ __forceinline__ void store(float* to, const Channels<kCount>& c) {
  if constexpr (kCount == 1) {
    *to = c.v[0];
  } else if constexpr (kCount == 2) {
    // As an integer, because nvcc writes a float2 as two values.
    const uint64_t low = __float_as_uint(c.v[0]), high = __float_as_uint(c.v[1]);
    *reinterpret_cast<uint64_t*>(to) = low | high << 32;
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i += 4)
      *reinterpret_cast<float4*>(to + i) = make_float4(c.v[i], c.v[i + 1], c.v[i + 2], c.v[i + 3]);
  }
}

template <int kCount>
static __device__ __forceinline__ void store(__nv_bfloat16* to, const Channels<kCount>& c) {
  if constexpr (kCount == 1) {
    *to = __float2bfloat16_rn(c.v[0]);
  } else if constexpr (kCount == 2) {
    *reinterpret_cast<unsigned*>(to) = pair_of(c.v[0], c.v[1]);
  } else if constexpr (kCount == 4) {
    *reinterpret_cast<uint2*>(to) = make_uint2(pair_of(c.v[0], c.v[1]), pair_of(c.v[2], c.v[3]));
  } else {
    *reinterpret_cast<uint4*>(to) =
        make_uint4(pair_of(c.v[0], c.v[1]), pair_of(c.v[2], c.v[3]), pair_of(c.v[4], c.v[5]), pair_of(c.v[6], c.v[7]));
  }
}

// The gradient before a leaky-ReLU in place of that behind it; bit i of `signs` belongs to channel i.
template <int kCount>
static __device__ __forceinline__ void apply_leaky_gradient(Channels<kCount>& c, unsigned signs, float slope) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) c.v[i] = leaky_gradient(c.v[i], signs >> i & 1, slope);
}

}  // namespace lesioncore
