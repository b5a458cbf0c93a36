// Strip convolution with stride 2 and no border: `convolve` from 16 channels to 16 on tensor cores. Layout and figure:
// convolve_strip_products.cuh.
//
// Pixel o of the result reads pixels 2 o, 2 o + 1 and 2 o + 2 along each axis. In shared memory the even columns of a
// row lie before the odd ones, so that lanes with neighbouring pixels read neighbouring memory.
// The input rows of kDownRows rows of the result are multiplied by the weights together, so that one read of those from
// shared memory serves all. The last row of the result lacks an input row then and rolls on.
// Bytes: the input is read once and a little more at the strips' borders, the result is written once.
#pragma once

#include "maps/convolve_strip_input.cuh"
#include "maps/convolve_strip_output.cuh"

namespace lesioncore {

constexpr int kDownColumns = kStripPixels - 1;  // of the result
constexpr int kDownRows = 2;                    // of the result, in a batch
constexpr int kDownInputRows = 2 * kDownRows;
constexpr int kDownOdd = slots(kStripPixels + 1);  // where the odd columns begin in a row of the ring

using DownRing = float4[2][kDownInputRows][2 * kDownOdd];

struct DownMemory {
  DownRing ring;
  uint4 weights[kWeightSteps][32];
};

// Reads the strip's columns into the ring: a thread has a quarter of the channels of an even column and of the odd one
// after it. Rows are counted in those of the result.
template <typename T>
class DownReader {
 public:
  // `to` is where the thread's values lie in a row of the ring, `column` the even one of its columns.
  __device__ __forceinline__ DownReader(const ConvolveArguments<T>& a, DownRing& ring, int to, int64_t slice,
                                        int column)
      : ring_(ring),
        to_(to),
        evens_(a, slice, column, threadIdx.x % 4, a.x.height, a.x.width),
        odds_(a, slice, column + 1, threadIdx.x % 4, a.x.height, a.x.width) {}

  __device__ __forceinline__ void fetch(int row) { evens_.fetch(2 * row), odds_.fetch(2 * row); }

  __device__ __forceinline__ void keep(int half, int row) {
    evens_.take(2 * row, [&](int k, const float4& values) { ring_[half][k][to_] = values; });
    odds_.take(2 * row, [&](int k, const float4& values) { ring_[half][k][kDownOdd + to_] = values; });
  }

 private:
  using Columns = ColumnReader<T, InputStage::kPlain, kDownInputRows>;

  DownRing& ring_;
  int to_;
  Columns evens_, odds_;
};

// Multiplies a batch of rows by the kernel: rows 2 j, 2 j + 1 and 2 j + 2 of the batch add to the sums of row j, which
// are sums[j + 1]; sums[0] are those of the row before, which lacked row 0.
static __device__ __forceinline__ void add_down_products(
    const float4 (&rows)[kDownInputRows][2 * kDownOdd], const uint4 (&weights)[kWeightSteps][32],
    const int (&from)[3],  // offset of the lane's pixel for each column of the kernel
    float (&sums)[kDownRows + 1][4]) {
#pragma unroll
  for (int dx = 0; dx < 3; ++dx) {
    float4 values[kDownInputRows];
#pragma unroll
    for (int k = 0; k < kDownInputRows; ++k) values[k] = rows[k][from[dx]];
#pragma unroll
    for (int dy = 0; dy < 3; ++dy) {
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        const uint4 w = weights[(dy * 3 + dx) * 2 + step][threadIdx.x % 32];
#pragma unroll
        for (int k = dy % 2; k < kDownInputRows; k += 2)
          multiply_add(sums[1 + (k - dy) / 2], w, channels_of(values[k], step));
      }
    }
  }
}

template <typename T, Skip kSkip, bool kActivate>
__global__ void __launch_bounds__(kStripThreads, 2) down_kernel(const ConvolveArguments<T> a, int rows) {
  auto& memory = *dynamic_shared<DownMemory>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int height = a.out.height, width = a.out.width, left = blockIdx.x * kDownColumns;
  load_weights(memory.weights, warp, [&](int output, int tap, int channel) {
    return load<1>(a.weight + (output * kTaps + tap) * kChannelBlock + channel).v[0];
  });
  clear_ring(memory.ring);
  __syncthreads();
  const int pixel = warp * 8 + read_pixel(), part = threadIdx.x % 4;
  const int from[3] = {slot(pixel) + part, kDownOdd + slot(pixel) + part, slot(pixel + 1) + part};
  const int column = 2 * (left + static_cast<int>(threadIdx.x) / 4), to = slot(threadIdx.x / 4) + part;
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    for (int top = blockIdx.y * rows; top < height; top += gridDim.y * rows) {
      const int bottom = min(top + rows, height);
      DownReader<T> reader(a, memory.ring, to, slice, column);
      OutputWriter<T, kChannelBlock, kSkip, kActivate, kDownRows> writer(a, slice, left + warp * 8 + lane % 4,
                                                                         min(left + kDownColumns, width), 0);
      float sums[kDownRows + 1][4] = {};  // of the result's rows from row - 1 on
      for_each_batch<kDownRows>(true, top, bottom, reader, [&](int half, int row) {
        writer.fetch(row - 1);
        add_down_products(memory.ring[half], memory.weights, from, sums);
        writer.put(row - 1, top, bottom, sums);
        roll_on<1>(sums);
      });
    }
  }
}

template <typename T>
void convolve_down(const ConvolveArguments<T>& a, const Queue& queue) {
  const dim3 grid = strip_grid(a.out.width, kDownColumns, a.out.height, a.out.count);
  auto launch = [&](auto skip) {
    for_activation(a, [&](auto activate) {
      queue.launch(down_kernel<T, decltype(skip)::value, decltype(activate)::value>, grid, dim3(kStripThreads),
                   sizeof(DownMemory), a, kStripHeight);
    });
  };
  a.skipped == nullptr ? launch(SkipConstant<Skip::kNone>{}) : launch(SkipConstant<Skip::kSame>{});
}

}  // namespace lesioncore
