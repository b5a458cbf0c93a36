// Adjoint of the strip convolution with stride 2: `convolve_down_adjoint`, the gradient of its input, between 16
// channels on tensor cores. Layout and figure: convolve_strip_products.cuh.
//
// Along each axis, pixel 2 c of the result takes taps 0 and 2 from gradients c and c - 1, pixel 2 c + 1 takes tap 1
// from gradient c. Pixels of the result beyond the last that the convolution read are zero.
// Bytes: the gradient is read once and a little more at the strips' borders, the result is written once.
#pragma once

#include "maps/convolve_strip_input.cuh"

namespace lesioncore {

constexpr int kAdjointColumns = kStripPixels - 1;  // of the gradient
constexpr int kAdjointRows = 2;                    // of the gradient, in a batch

using AdjointRing = float4[2][kAdjointRows][slots(kStripPixels + 1)];

// Reads the strip's columns of the gradient into the ring: a thread has a quarter of the channels of one column.
template <typename T>
class AdjointReader {
 public:
  __device__ __forceinline__ AdjointReader(const ConvolveArguments<T>& a, AdjointRing& ring, int64_t slice, int left)
      : ring_(ring),
        to_(slot(threadIdx.x / 4) + threadIdx.x % 4),
        column_(a, slice, left - 1 + static_cast<int>(threadIdx.x) / 4, threadIdx.x % 4, a.x.height, a.x.width) {}

  __device__ __forceinline__ void fetch(int row) { column_.fetch(row); }

  __device__ __forceinline__ void keep(int half, int row) {
    column_.take(row, [&](int k, const float4& values) { ring_[half][k][to_] = values; });
  }

 private:
  AdjointRing& ring_;
  int to_;
  ColumnReader<T, InputStage::kPlain, kAdjointRows> column_;
};

// The lane's sums of one row of the result, at its even and its odd columns.
struct AdjointSums {
  float even[4], odd[4];

  __device__ __forceinline__ void clear() { set_zero(even), set_zero(odd); }

  // Adds the products with row `dy` of the kernel, from the gradient at the pixel's column and at the one before.
  __device__ __forceinline__ void add(const WarpWeights& weights, int dy, const float4& here, const float4& before) {
    weights.add(even, 3 * dy, here);
    weights.add(even, 3 * dy + 2, before);
    weights.add(odd, 3 * dy + 1, here);
  }
};

// Writes a row of the result: the pixels at columns 2 c and 2 c + 1 for the lane's two columns c of the gradient.
template <typename T>
class AdjointWriter {
 public:
  // The lane's columns are `column` and the fourth after it, as far as they lie before `end`.
  __device__ __forceinline__ AdjointWriter(const ConvolveArguments<T>& a, int64_t slice, int column, int end)
      : a_(a),
        column_(column),
        end_(end),
        row_stride_(static_cast<int>(a.out.width) * kChannelBlock),
        result_(a.result + slice * a.out.height * row_stride_ + 2 * column * kChannelBlock + threadIdx.x % 32 / 4 * 2) {
  }

  __device__ __forceinline__ void put(int row, const AdjointSums& sums) const {
    if (row >= a_.out.height) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (column_ + 4 * i >= end_) continue;
      T* at = result_ + row * row_stride_ + 8 * i * kChannelBlock;
      store<2>(at, Channels<2>{{sums.even[i], sums.even[2 + i]}});
      if (2 * (column_ + 4 * i) + 1 < a_.out.width)
        store<2>(at + kChannelBlock, Channels<2>{{sums.odd[i], sums.odd[2 + i]}});
    }
  }

 private:
  const ConvolveArguments<T>& a_;
  int column_, end_, row_stride_;
  T* result_;  // [H, W, 16] from the lane's first pixel and channel on
};

template <typename T>
__global__ void __launch_bounds__(kStripThreads, 2) down_adjoint_kernel(const ConvolveArguments<T> a, int rows) {
  __shared__ AdjointRing ring;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, left = blockIdx.x * kAdjointColumns;
  const int height = (a.out.height + 1) / 2;  // in rows of the gradient
  const int end = min(left + kAdjointColumns, (static_cast<int>(a.out.width) + 1) / 2);
  const WarpWeights weights([&](int output, int tap, int input) {  // transposed
    return load<1>(a.weight + (input * kTaps + tap) * kChannelBlock + output).v[0];
  });
  clear_ring(ring);
  __syncthreads();
  const int pixel = warp * 8 + read_pixel(), before = slot(pixel) + lane % 4, here = slot(pixel + 1) + lane % 4;
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    for (int top = blockIdx.y * rows; top < height; top += gridDim.y * rows) {
      const int bottom = min(top + rows, height);
      AdjointReader<T> reader(a, ring, slice, left);
      const AdjointWriter<T> writer(a, slice, left + warp * 8 + lane % 4, end);
      AdjointSums sums = {};  // of the result's row that is computed
      for_each_batch<kAdjointRows>(true, top - 1, bottom - 1, reader, [&](int half, int first) {
#pragma unroll
        for (int k = 0; k < kAdjointRows; ++k) {
          const int row = first + k;
          if (row >= bottom) break;
          const float4 values = ring[half][k][here], values_before = ring[half][k][before];
          if (row >= top) {
            sums.add(weights, 0, values, values_before);
            writer.put(2 * row, sums);
            sums.clear();
            sums.add(weights, 1, values, values_before);
            writer.put(2 * row + 1, sums);
          }
          sums.clear();
          sums.add(weights, 2, values, values_before);
        }
      });
    }
  }
}

template <typename T>
void convolve_down_adjoint(const ConvolveArguments<T>& a, const Queue& queue) {
  const dim3 grid = strip_grid((a.out.width + 1) / 2, kAdjointColumns, (a.out.height + 1) / 2, a.out.count);
  queue.launch(down_adjoint_kernel<T>, grid, dim3(kStripThreads), 0, a, kStripHeight);
}

}  // namespace lesioncore
