// Walk of a block through the strips of a map, row batch by row batch: what the strip convolutions have in common.
#pragma once

#include <algorithm>
#include <cstdint>

#include "maps/convolve_strip_products.cuh"

namespace lesioncore {

// Rows of the result that a block computes in turn: few, so that there are enough blocks for all multiprocessors, but
// many more than the rows of the border that neighbouring blocks read, too.
constexpr int kStripHeight = 50;

inline dim3 strip_grid(int64_t width, int64_t columns, int64_t height, int64_t count) {
  return dim3(static_cast<unsigned>((width + columns - 1) / columns),
              static_cast<unsigned>(std::min<int64_t>((height + kStripHeight - 1) / kStripHeight, 65535)),
              static_cast<unsigned>(std::min<int64_t>(count, 65535)));
}

// Zeroes all of the ring, because pixels beyond the strip are read, though no result needs them.
template <typename Ring>
static __device__ __forceinline__ void clear_ring(Ring& ring) {
  auto* const values = reinterpret_cast<float4*>(&ring);
  for (int i = threadIdx.x; i < static_cast<int>(sizeof(Ring) / sizeof(float4)); i += blockDim.x)
    values[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

// Takes the batches of kRows rows that begin at `begin`, begin + kRows, ... up to `last` through the two halves of the
// ring: reader.fetch(row) starts the reads of a batch, reader.keep(half, row) puts them into a half of the ring, and
// multiply(half, row) is called for each batch while the reads of the next one are under way. Threads that do not
// `read` only multiply.
template <int kRows, typename Reader, typename F>
static __device__ __forceinline__ void for_each_batch(bool reads, int begin, int last, Reader& reader,
                                                      const F& multiply) {
  if (reads) {
    reader.fetch(begin);
    reader.keep(0, begin);
  }
  __syncthreads();
  int now = 0;
  for (int row = begin; row <= last; row += kRows, now = 1 - now) {
    const bool more = reads && row + kRows <= last;
    if (more) reader.fetch(row + kRows);
    multiply(now, row);
    if (more) reader.keep(1 - now, row + kRows);
    __syncthreads();
  }
}

}  // namespace lesioncore
