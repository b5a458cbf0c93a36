// convolve with stride 2 between 16 channels, without a border, and the gradient of its input, on tensor cores.
//
// Bytes: the input is read once and a little more at the strips' borders, the output written once.
#pragma once

#include "maps/convolve_strip_stages.cuh"

namespace lesioncore {

// Stride 2, no border: output pixel o reads 2 o, 2 o + 1 and 2 o + 2. Even columns lie before odd ones in shared memory.
// The rows of kDownRows outputs meet the weights together, so that one read of them from shared memory serves all, and
// as many are on their way meanwhile; the last output lacks a row then and rolls on.
constexpr int kDownColumns = kStripPixels - 1;
constexpr int kDownRows = 2;

struct DownMemory {
  static constexpr int kOdd = slots(kStripPixels + 1);
  float4 ring[2][2 * kDownRows][2 * kOdd];
  uint4 weights[kTaps * 2][32];
};

template <typename T, Skip kSkip, bool kActivate>
__global__ void __launch_bounds__(kStripThreads, 2) down_kernel(const ConvolveArguments<T> a, int rows) {
  constexpr int kOdd = DownMemory::kOdd, kInputs = 2 * kDownRows;
  auto& memory = *dynamic_shared<DownMemory>();
  auto& ring = memory.ring;
  auto& weights = memory.weights;
  const int lane = threadIdx.x % 32, tile = threadIdx.x / 32, height = a.out.height, width = a.out.width;
  const int left = blockIdx.x * kDownColumns;
  for (int i = tile; i < kTaps * 2; i += kStripWarps)
    weights[i][lane] = weights_of(i % 2, [&](int output, int channel) {
      return load<1>(a.weight + (output * kTaps + i / 2) * kChannelBlock + channel).v[0];
    });
  for (int i = threadIdx.x; i < 2 * kInputs * 2 * kOdd; i += kStripThreads)
    ring[0][0][i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);  // pixels beyond the strip are read, but not needed
  __syncthreads();
  const int pixel = tile * 8 + read_pixel(), part = threadIdx.x % 4;
  const int from[3] = {slot(pixel) + part, kOdd + slot(pixel) + part, slot(pixel + 1) + part};
  const int column = 2 * (left + static_cast<int>(threadIdx.x) / 4), to = slot(threadIdx.x / 4) + part;
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    for (int top = blockIdx.y * rows; top < height; top += gridDim.y * rows) {
      const int bottom = min(top + rows, height);
      ColumnReader<T, InputStage::kPlain, kInputs> evens(a, slice, column, part, a.x.height, a.x.width),
          odds(a, slice, column + 1, part, a.x.height, a.x.width);
      OutputWriter<T, kChannelBlock, kSkip, kActivate, kDownRows> exit(a, slice, left + tile * 8 + lane % 4,
                                                                       min(left + kDownColumns, width), 0);
      auto fetch = [&](int row) { evens.fetch(2 * row), odds.fetch(2 * row); };
      auto keep = [&](int which, int row) {
        evens.take(2 * row, [&](int k, const float4& values) { ring[which][k][to] = values; });
        odds.take(2 * row, [&](int k, const float4& values) { ring[which][k][kOdd + to] = values; });
      };
      fetch(top);
      keep(0, top);
      __syncthreads();
      float sums[kDownRows + 1][4] = {};  // of the output rows from row - 1 on
      int now = 0;
      for (int row = top; row <= bottom; row += kDownRows, now = 1 - now) {
        const bool more = row + kDownRows <= bottom;
        if (more) fetch(row + kDownRows);
        exit.fetch(row - 1);
#pragma unroll
        for (int dx = 0; dx < 3; ++dx) {
          float4 values[kInputs];
#pragma unroll
          for (int k = 0; k < kInputs; ++k) values[k] = ring[now][k][from[dx]];
#pragma unroll
          for (int dy = 0; dy < 3; ++dy) {
#pragma unroll
            for (int step = 0; step < 2; ++step) {
              const uint4 w = weights[(dy * 3 + dx) * 2 + step][lane];
#pragma unroll
              for (int k = dy % 2; k < kInputs; k += 2)
                multiply_add(sums[1 + (k - dy) / 2], w, channels_of(values[k], step));
            }
          }
        }
        exit.put(row - 1, top, bottom, sums);
        copy(sums[0], sums[kDownRows]);
#pragma unroll
        for (int k = 1; k <= kDownRows; ++k) set_zero(sums[k]);
        if (more) keep(1 - now, row + kDownRows);
        __syncthreads();
      }
    }
  }
}

// The gradient of a stride-2 convolution's input: pixel 2 c takes taps 0 and 2 from gradients c and c - 1, pixel 2 c + 1
// tap 1 from c, along both axes. The result's pixels beyond the last that was read are zero.
constexpr int kAdjointRows = 2;

template <typename T>
__global__ void __launch_bounds__(kStripThreads, 2) down_adjoint_kernel(const ConvolveArguments<T> a, int rows) {
  __shared__ float4 ring[2][kAdjointRows][slots(kStripPixels + 1)];
  const int lane = threadIdx.x % 32, tile = threadIdx.x / 32, height = (a.out.height + 1) / 2;
  const int left = blockIdx.x * kDownColumns, column = left + tile * 8 + lane % 4, channel = lane / 4 * 2;
  const int end = min(left + kDownColumns, (static_cast<int>(a.out.width) + 1) / 2);
  const int row_stride = static_cast<int>(a.out.width) * kChannelBlock;
  const WarpWeights weights([&](int output, int tap, int input) {  // transposed
    return load<1>(a.weight + (input * kTaps + tap) * kChannelBlock + output).v[0];
  });
  for (int i = threadIdx.x; i < 2 * kAdjointRows * slots(kStripPixels + 1); i += kStripThreads)
    ring[0][0][i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);  // pixels beyond the strip are read, but not needed
  __syncthreads();
  const int pixel = tile * 8 + read_pixel(), before = slot(pixel) + lane % 4, here = slot(pixel + 1) + lane % 4;
  const int to = slot(threadIdx.x / 4) + threadIdx.x % 4;
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    T* result = a.result + slice * a.out.height * row_stride + 2 * column * kChannelBlock + channel;
    auto put = [&](int row, const float (&even)[4], const float (&odd)[4]) {
      if (row >= a.out.height) return;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (column + 4 * i >= end) continue;
        T* at = result + row * row_stride + 8 * i * kChannelBlock;
        store<2>(at, Channels<2>{{even[i], even[2 + i]}});
        if (2 * (column + 4 * i) + 1 < a.out.width) store<2>(at + kChannelBlock, Channels<2>{{odd[i], odd[2 + i]}});
      }
    };
    for (int top = blockIdx.y * rows; top < height; top += gridDim.y * rows) {
      const int bottom = min(top + rows, height);
      ColumnReader<T, InputStage::kPlain, kAdjointRows> reader(a, slice, left - 1 + static_cast<int>(threadIdx.x) / 4,
                                                               threadIdx.x % 4, a.x.height, a.x.width);
      auto keep = [&](int which, int first) {
        reader.take(first, [&](int k, const float4& values) { ring[which][k][to] = values; });
      };
      reader.fetch(top - 1);
      keep(0, top - 1);
      __syncthreads();
      float even[4] = {}, odd[4] = {};  // sums of result row 2 r
      int now = 0;
      for (int first = top - 1; first < bottom; first += kAdjointRows, now = 1 - now) {
        const bool more = first + kAdjointRows < bottom;
        if (more) reader.fetch(first + kAdjointRows);
#pragma unroll
        for (int k = 0; k < kAdjointRows; ++k) {
          const int row = first + k;
          if (row >= bottom) break;
          const float4 values = ring[now][k][here], last = ring[now][k][before];
          auto add = [&](int dy) {
            weights.add(even, 3 * dy, values);
            weights.add(even, 3 * dy + 2, last);
            weights.add(odd, 3 * dy + 1, values);
          };
          if (row >= top) {
            add(0);
            put(2 * row, even, odd);
            set_zero(even), set_zero(odd);
            add(1);
            put(2 * row + 1, even, odd);
          }
          set_zero(even), set_zero(odd);
          add(2);
        }
        if (more) keep(1 - now, first + kAdjointRows);
        __syncthreads();
      }
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

template <typename T>
void convolve_down_adjoint(const ConvolveArguments<T>& a, const Queue& queue) {
  const dim3 grid = strip_grid((a.out.width + 1) / 2, kDownColumns, (a.out.height + 1) / 2, a.out.count);
  queue.launch(down_adjoint_kernel<T>, grid, dim3(kStripThreads), 0, a, kStripHeight);
}

}  // namespace lesioncore
