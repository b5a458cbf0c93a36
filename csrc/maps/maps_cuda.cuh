// Enlargement and launch geometry of the CUDA operators on feature maps.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda_launch.cuh"
#include "maps/channels_cuda.cuh"
#include "maps/map_checks.h"

namespace lesioncore {

// The forms of a skip connection: none, one of the result's size, or one to be enlarged to it.
enum class Skip { kNone, kSame, kEnlarged };

// How both axes of a map are enlarged.
struct Axes {
  Axis<float> rows, columns;
  Axes(const MapShape& small, const MapShape& large)
      : rows(small.height, large.height), columns(small.width, large.width) {}
};

// kCount channels of one pixel of an enlarged map, from `channel` on.
template <int kCount, typename T>
static __device__ __forceinline__ Channels<kCount> enlarged(
    const T* map,  // [h, width, channels]: a slice of the small map
    int width, int channels, const Blend<float>& rows, const Blend<float>& columns, int channel) {
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

// Geometry for one thread per `per_thread` channels of a pixel: a block covers part of a row, and the grid's y and z
// cover rows and slices.
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

// Calls f(slice, row, column, channel) for this thread's groups of kCount channels.
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
