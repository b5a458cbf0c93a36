// Thread map of the kernels with one thread per pixel of a volume: tiles of 32 x 8 pixels of a slice.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda_launch.cuh"
#include "tv/pixel.h"

namespace lesioncore {

constexpr int kTileWidth = 32;  // threads along a row: one warp reads consecutive pixels
constexpr int kTileHeight = 8;

// One block per tile. The hardware caps the grid's y and z, so that kernels loop over the tiles beyond.
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

}  // namespace lesioncore
