// `convolve` from one channel to many and from many to one, in float32 arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

#include "maps/convolve_arguments.cuh"

namespace lesioncore {

// From one channel to C. A block has some columns of kFromRows rows, which lie with their border in shared memory. A
// thread takes kFromOutputs output channels of one column downwards: their weights stay in registers, and three rows of
// the input roll through registers.
// Bytes per pixel: 4 read, 4 C written, C / 8 for signs.
constexpr int kFromRows = 20, kFromColumns = 128, kFromOutputs = 4;

template <typename T, bool kActivate>
__global__ void __launch_bounds__(256) from_one_kernel(ConvolveArguments<T> a, int columns) {
  __shared__ float tile[kFromRows + 2][kFromColumns + 2];
  const int channels = a.out.channels, groups = channels / kFromOutputs;
  const int group = threadIdx.x % groups, within_block = threadIdx.x / groups;
  const int left = blockIdx.x * columns, column = left + within_block;
  const int height = a.out.height, width = a.out.width;
  const bool inside = within_block < columns && column < width;
  const int place = min(within_block, columns - 1);  // threads without a column read the last one
  float weights[kTaps][kFromOutputs], bias[kFromOutputs];
#pragma unroll
  for (int c = 0; c < kFromOutputs; ++c) {
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap)
      weights[tap][c] = load<1>(a.weight + (group * kFromOutputs + c) * kTaps + tap).v[0];
    bias[c] = a.bias == nullptr ? 0.0f : load<1>(a.bias + group * kFromOutputs + c).v[0];
  }
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    const T* map = a.input + slice * height * width;
    for (int top = blockIdx.y * kFromRows; top < height; top += gridDim.y * kFromRows) {
      __syncthreads();  // now all threads have read the tile before
      for (int i = threadIdx.x; i < (kFromRows + 2) * (columns + 2); i += blockDim.x) {
        const int y = i / (columns + 2), x = i - y * (columns + 2), row = top + y - 1, at = left + x - 1;
        const bool exists = row >= 0 && row < height && at >= 0 && at < width;
        tile[y][x] = exists ? load<1>(map + row * width + at).v[0] : 0.0f;
      }
      __syncthreads();
      float rows[3][3];
#pragma unroll
      for (int k = 0; k < 3; ++k) rows[0][k] = tile[0][place + k], rows[1][k] = tile[1][place + k];
      const int count = min(kFromRows, height - top);
      int64_t at = ((slice * height + top) * width + column) * channels + group * kFromOutputs;
#pragma unroll 3
      for (int r = 0; r < count; ++r, at += static_cast<int64_t>(width) * channels) {
#pragma unroll
        for (int k = 0; k < 3; ++k) rows[2][k] = tile[r + 2][place + k];
        Channels<kFromOutputs> sum = {bias[0], bias[1], bias[2], bias[3]};
#pragma unroll
        for (int tap = 0; tap < kTaps; ++tap) {
#pragma unroll
          for (int c = 0; c < kFromOutputs; ++c) sum.v[c] = fmaf(rows[tap / 3][tap % 3], weights[tap][c], sum.v[c]);
        }
        if constexpr (kActivate) {
          unsigned signs = 0;
#pragma unroll
          for (int c = 0; c < kFromOutputs; ++c) {
            signs |= static_cast<unsigned>(sum.v[c] > 0.0f) << c;
            sum.v[c] = leaky(sum.v[c], a.slope);
          }
          signs |= __shfl_xor_sync(0xffffffffu, signs, 1) << 4;  // the even lane's neighbour has the next four
          if (inside && group % 2 == 0) a.out_signs[at / 8] = static_cast<uint8_t>(signs);
        }
        if (inside) store<kFromOutputs>(a.result + at, sum);
#pragma unroll
        for (int k = 0; k < 3; ++k) rows[0][k] = rows[1][k], rows[1][k] = rows[2][k];
      }
    }
  }
}

// From C channels to one. A lane reads all channels of one pixel of a row and computes nine products of them, one for
// each tap. It adds those of a row of the kernel up with the products of the neighbouring lanes, and the sums of three
// rows roll through registers. A warp so computes kToColumns pixels of each row that it passes:
//
//     lane      0    1    2   ...   30    31
//     pixel    c-1   c   c+1  ...  c+29  c+30     read
//                    c   c+1  ...  c+29           written
//
// kRowsTogether rows share the reads of the weights from shared memory, one for every four products.
// Bytes per pixel: 4 C read (1.2 times, with the borders), 4 written.
constexpr int kRowsTogether = 2, kToColumns = 30;

// Multiplies eight channels of a lane's pixels by the weights of all taps.
static __device__ __forceinline__ void add_products(const Channels<8> (&values)[kRowsTogether],
                                                    const float* weights,  // [2, kTaps, 4], shared
                                                    float (&products)[kRowsTogether][kTaps]) {
#pragma unroll
  for (int part = 0; part < 2; ++part) {
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
      const Channels<4> w = load<4>(weights + (part * kTaps + tap) * 4);
#pragma unroll
      for (int r = 0; r < kRowsTogether; ++r) {
#pragma unroll
        for (int k = 0; k < 4; ++k) products[r][tap] = fmaf(values[r].v[part * 4 + k], w.v[k], products[r][tap]);
      }
    }
  }
}

// For each row of the kernel, the sum of its three taps, whose products lie in neighbouring lanes.
static __device__ __forceinline__ void add_along_row(const float (&products)[kTaps], float (&along)[3]) {
#pragma unroll
  for (int dy = 0; dy < 3; ++dy) {
    const float left = __shfl_up_sync(0xffffffffu, products[dy * 3], 1),
                right = __shfl_down_sync(0xffffffffu, products[dy * 3 + 2], 1);
    along[dy] = left + products[dy * 3 + 1] + right;
  }
}

template <typename T, bool kSigns>
__global__ void __launch_bounds__(128) to_one_kernel(ConvolveArguments<T> a, int rows_per_warp) {
  float* weights = dynamic_shared<float>();  // [channels / 4, kTaps, 4]
  const int channels = a.x.channels, height = a.out.height, width = a.out.width;
  for (int i = threadIdx.x; i < channels * kTaps; i += blockDim.x)
    weights[i] = load<1>(a.weight + i / 4 % kTaps * channels + i / (4 * kTaps) * 4 + i % 4).v[0];
  __syncthreads();
  const float bias = a.bias == nullptr ? 0.0f : load<1>(a.bias).v[0];
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int column = (blockIdx.x * warps + threadIdx.x / 32) * kToColumns + lane - 1;
  const bool reads = column >= 0 && column < width, writes = lane > 0 && lane <= kToColumns && column < width;
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    for (int top = blockIdx.y * rows_per_warp; top < height; top += gridDim.y * rows_per_warp) {
      const int bottom = min(top + rows_per_warp, height);
      float above = bias, here = bias;  // sums of the two rows above, which still lack a row of the kernel
      for (int first = top - 1; first <= bottom; first += kRowsTogether) {
        float products[kRowsTogether][kTaps] = {};
        const int64_t at = ((slice * height + first) * width + column) * channels;
        for (int c = 0; c < channels; c += 8) {
          Channels<8> values[kRowsTogether];
#pragma unroll
          for (int r = 0; r < kRowsTogether; ++r) {
            values[r] = {};
            if (!reads || first + r < 0 || first + r >= min(height, bottom + 1)) continue;
            const int64_t from = at + r * width * channels + c;
            values[r] = load<8>(a.input + from);
            if constexpr (kSigns) apply_leaky_gradient(values[r], a.signs[from / 8], a.slope);
          }
          add_products(values, weights + c * kTaps, products);
        }
#pragma unroll
        for (int r = 0; r < kRowsTogether; ++r) {
          const int row = first + r;
          float along[3];
          add_along_row(products[r], along);
          // This row is the kernel's last for the pixel above, its second for the pixel here, its first for that below.
          const float complete = above + along[2];
          if (row > top && row <= bottom && writes)
            store<1>(a.result + (slice * height + row - 1) * width + column, Channels<1>{{complete}});
          above = here + along[1];
          here = bias + along[0];
        }
      }
    }
  }
}

template <typename T>
void convolve_from_one(const ConvolveArguments<T>& a, const Queue& queue) {
  const int64_t groups = a.out.channels / kFromOutputs, blocks = (a.out.width * groups + 255) / 256;
  const int64_t columns = (a.out.width + blocks - 1) / blocks;  // at most kFromColumns, for 8 channels
  const int64_t threads = (columns * groups + 31) / 32 * 32;
  const dim3 grid(static_cast<unsigned>(blocks),
                  static_cast<unsigned>(std::min<int64_t>((a.out.height + kFromRows - 1) / kFromRows, 65535)),
                  static_cast<unsigned>(std::min<int64_t>(a.out.count, 65535)));
  const auto launch = [&](auto kernel) {
    queue.launch(kernel, grid, dim3(static_cast<unsigned>(threads)), 0, a, static_cast<int>(columns));
  };
  a.out_signs != nullptr ? launch(from_one_kernel<T, true>) : launch(from_one_kernel<T, false>);
}

template <typename T>
void convolve_to_one(const ConvolveArguments<T>& a, const Queue& queue) {
  constexpr int kWarps = 4, kRows = 25;  // rows that a warp computes in turn
  const int64_t columns = kToColumns * kWarps;
  const dim3 grid(static_cast<unsigned>((a.out.width + columns - 1) / columns),
                  static_cast<unsigned>(std::min<int64_t>((a.out.height + kRows - 1) / kRows, 65535)),
                  static_cast<unsigned>(std::min<int64_t>(a.out.count, 65535)));
  const auto bytes = static_cast<size_t>(a.x.channels * kTaps) * sizeof(float);
  queue.launch(a.signs != nullptr ? to_one_kernel<T, true> : to_one_kernel<T, false>, grid, dim3(32 * kWarps), bytes, a,
               kRows);
}

}  // namespace lesioncore
