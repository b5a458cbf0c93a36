// What the CUDA operators on feature maps share: eight or four channels at a time in registers, whatever the type in
// memory; launch geometry.
#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cuda_launch.cuh"
#include "maps/map_checks.h"

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

// Reads and writes of neighbouring channels, 16 bytes (or all there are) in one instruction. Addresses are aligned: the
// number of channels is a multiple of what is read at a time, and torch's memory is aligned to more.
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
    // Not as a float2, which nvcc writes as two values.
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

// A skip connection: none, one of the result's size, or one to be enlarged to it.
enum class Skip { kNone, kSame, kEnlarged };

// How a map is enlarged.
struct Axes {
  Axis<float> rows, columns;
  Axes(const MapShape& small, const MapShape& large)
      : rows(small.height, large.height), columns(small.width, large.width) {}
};

// Neighbouring channels of a pixel (row, column) of an enlarged map; `map` is one slice of the small one.
template <int kCount, typename T>
static __device__ __forceinline__ Channels<kCount> enlarged(const T* map, int width, int channels,
                                                            const Blend<float>& rows, const Blend<float>& columns,
                                                            int channel) {
  const T* above = map + static_cast<int64_t>(rows.first) * width * channels + channel;
  const T* below = map + static_cast<int64_t>(rows.second) * width * channels + channel;
  const Channels<kCount> a = load<kCount>(above + columns.first * channels),
                         b = load<kCount>(above + columns.second * channels),
                         c = load<kCount>(below + columns.first * channels),
                         d = load<kCount>(below + columns.second * channels);
  Channels<kCount> result;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float upper = fmaf(columns.weight, b.v[i] - a.v[i], a.v[i]),
                lower = fmaf(columns.weight, d.v[i] - c.v[i], c.v[i]);
    result.v[i] = fmaf(rows.weight, lower - upper, upper);
  }
  return result;
}

template <int kCount>
static __device__ __forceinline__ void apply_leaky_gradient(Channels<kCount>& c, unsigned signs, float slope) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) c.v[i] = leaky_gradient(c.v[i], signs >> i & 1, slope);
}

// One thread for `kCount` channels of a pixel; a block covers part of a row, the grid's y and z rows and slices.
struct RowGrid {
  dim3 blocks, threads;
};

inline RowGrid row_grid(const MapShape& s, int64_t per_thread) {
  const int64_t along = s.width * s.channels / per_thread, blocks = (along + 255) / 256;
  const int64_t threads = ((along + blocks - 1) / blocks + 31) / 32 * 32;
  return {dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(std::min<int64_t>(s.height, 65535)),
               static_cast<unsigned>(std::min<int64_t>(s.count, 65535))),
          dim3(static_cast<unsigned>(threads))};
}

// Calls f(slice, row, column, channel) for what this thread has to do.
template <int kCount, typename F>
static __device__ __forceinline__ void for_row_parts(const MapShape& s, const F& f) {
  const int parts = static_cast<int>(s.channels) / kCount, part = blockIdx.x * blockDim.x + threadIdx.x;
  const int column = part / parts, channel = (part - column * parts) * kCount;
  if (column >= s.width) return;
  for (int64_t slice = blockIdx.z; slice < s.count; slice += gridDim.z)
    for (int row = blockIdx.y; row < s.height; row += gridDim.y) f(slice, row, column, channel);
}

// Calls launch(T{}) with the type of a map in memory.
template <typename F>
void for_type(const Tensor& map, const F& launch) {
  map.scalar_type() == ScalarType::Float ? launch(float{}) : launch(__nv_bfloat16{});
}

}  // namespace lesioncore
