// Strip convolution with stride 1 and a border of zeros: `convolve` from 16 channels to 16 or 32, and from 32 to 16, on
// tensor cores. Layout and figure: convolve_strip_products.cuh.
//
// A block's warps beyond the first seven compute the second block of 16 outputs; a second block of 16 inputs is a
// second part of the ring. kBatchRows rows of input are multiplied by the weights together, so that one read of those
// from shared memory serves all; two rows of sums are not complete then and roll on.
// Bytes: the input is read once and a little more at the strips' borders, the result is written once.
#pragma once

#include "maps/convolve_strip_input.cuh"
#include "maps/convolve_strip_output.cuh"

namespace lesioncore {

constexpr int kSameColumns = kStripPixels - 2;  // of the result: the strip has a border on both sides
constexpr int kSameSlots = slots(kStripPixels + 2);

template <int kInputs>
using SameRing = float4[2][kInputs / kChannelBlock][kBatchRows][kSameSlots];

template <int kInputs, int kOutputs>
struct SameMemory {
  SameRing<kInputs> ring;
  uint4 weights[kOutputs / kChannelBlock][kInputs / kChannelBlock][kWeightSteps][32];
  RowBlends blends, skip_blends;
};

// Reads the strip's columns of all blocks of inputs into the ring: a thread has a quarter of a block's channels of one
// column.
template <typename T, InputStage kInput, int kInputs>
class SameReader {
 public:
  // `to` is where the thread's values lie in a row of the ring. It comes with height and width from the kernel, which
  // has them in registers anyhow.
  __device__ __forceinline__ SameReader(const ConvolveArguments<T>& a, SameRing<kInputs>& ring, int to,
                                        const RowBlends& blends, int64_t slice, int left, int top, int height,
                                        int width)
      : ring_(ring),
        to_(to),
        first_(columns_of(a, blends, slice, left, top, 0, height, width)),
        second_(columns_of(a, blends, slice, left, top, kInputs / kChannelBlock - 1, height, width)) {}

  __device__ __forceinline__ void fetch(int row) {
    first_.fetch(row);
    if constexpr (kInputs > kChannelBlock) second_.fetch(row);
  }

  __device__ __forceinline__ void keep(int half, int row) {
    first_.take(row, [&](int k, const float4& values) { ring_[half][0][k][to_] = values; });
    if constexpr (kInputs > kChannelBlock)
      second_.take(row, [&](int k, const float4& values) { ring_[half][1][k][to_] = values; });
  }

 private:
  using Columns = ColumnReader<T, kInput, kBatchRows, kInputs>;

  static __device__ __forceinline__ Columns columns_of(const ConvolveArguments<T>& a, const RowBlends& blends,
                                                       int64_t slice, int left, int top, int block, int height,
                                                       int width) {
    return Columns(a, slice, left - 1 + static_cast<int>(threadIdx.x) / 4, block * 4 + threadIdx.x % 4, height, width,
                   &blends, top - 1);
  }

  SameRing<kInputs>& ring_;
  int to_;
  Columns first_, second_;  // of the first and of the last block of inputs, which may be the same
};

// Multiplies a batch of rows by the kernel: row k of the batch adds to the sums k, k + 1 and k + 2.
template <int kInputBlocks>
static __device__ __forceinline__ void add_same_products(
    const float4 (&rows)[kInputBlocks][kBatchRows][kSameSlots], const uint4 (&weights)[kInputBlocks][kWeightSteps][32],
    const int (&from)[3],  // offset of the lane's pixel for each column of the kernel
    float (&sums)[kBatchRows + 2][4]) {
#pragma unroll
  for (int part = 0; part < kInputBlocks * 3; ++part) {
    const int block = part / 3, dx = part % 3;
    float4 values[kBatchRows];
#pragma unroll
    for (int k = 0; k < kBatchRows; ++k) values[k] = rows[block][k][from[dx]];
#pragma unroll
    for (int dy = 0; dy < 3; ++dy) {
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        const uint4 w = weights[block][(dy * 3 + dx) * 2 + step][threadIdx.x % 32];
#pragma unroll
        for (int k = 0; k < kBatchRows; ++k) multiply_add(sums[k + 2 - dy], w, channels_of(values[k], step));
      }
    }
  }
}

template <typename T, int kInputs, int kOutputs, InputStage kInput, Skip kSkip, bool kActivate>
__global__ void __launch_bounds__(kStripThreads* kOutputs / kChannelBlock, 32 / kOutputs)
    same_kernel(const ConvolveArguments<T> a, int rows) {
  auto& memory = *dynamic_shared<SameMemory<kInputs, kOutputs>>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % kStripWarps, block = threadIdx.x / kStripThreads;
  const int height = a.out.height, width = a.out.width, left = blockIdx.x * kSameColumns;
  for (int part = 0; part < kInputs / kChannelBlock; ++part)
    load_weights(memory.weights[block][part], warp, [&](int output, int tap, int channel) {
      const int row = (block * kChannelBlock + output) * kTaps + tap;
      return load<1>(a.weight + row * kInputs + part * kChannelBlock + channel).v[0];
    });
  clear_ring(memory.ring);
  __syncthreads();
  const int pixel = warp * 8 + read_pixel();
  const int from[3] = {slot(pixel) + lane % 4, slot(pixel + 1) + lane % 4, slot(pixel + 2) + lane % 4};
  const int to = slot(threadIdx.x / 4) + threadIdx.x % 4;
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    for (int top = blockIdx.y * rows; top < height; top += gridDim.y * rows) {
      const int bottom = min(top + rows, height);
      if constexpr (kInput == InputStage::kEnlarged) memory.blends.fill(a.axes.rows, top - 1, height, true);
      if constexpr (kSkip == Skip::kEnlarged) memory.skip_blends.fill(a.skip_axes.rows, top - 2, height, false);
      if constexpr (kInput == InputStage::kEnlarged || kSkip == Skip::kEnlarged) __syncthreads();
      SameReader<T, kInput, kInputs> reader(a, memory.ring, to, memory.blends, slice, left, top, height, width);
      OutputWriter<T, kOutputs, kSkip, kActivate, kBatchRows> writer(
          a, slice, left + warp * 8 + lane % 4, min(left + kSameColumns, width), block, &memory.skip_blends, top - 2);
      float sums[kBatchRows + 2][4] = {};  // of the result's rows from row - 1 on
      for_each_batch<kBatchRows>(threadIdx.x < kStripThreads, top - 1, bottom, reader, [&](int half, int row) {
        if (kSkip == Skip::kSame) writer.fetch(row - 1);
        add_same_products(memory.ring[half], memory.weights[block], from, sums);
        if (kSkip == Skip::kEnlarged) writer.fetch(row - 1);  // later, because there are enough registers only now
        writer.put(row - 1, top, bottom, sums);
        roll_on<2>(sums);
      });
    }
  }
}

template <typename T, int kInputs, int kOutputs, InputStage kInput, Skip kSkip>
void launch_same(const ConvolveArguments<T>& a, const Queue& queue) {
  const dim3 grid = strip_grid(a.out.width, kSameColumns, a.out.height, a.out.count);
  for_activation(a, [&](auto activate) {
    queue.launch(same_kernel<T, kInputs, kOutputs, kInput, kSkip, decltype(activate)::value>, grid,
                 dim3(kStripThreads * kOutputs / kChannelBlock), sizeof(SameMemory<kInputs, kOutputs>), a,
                 kStripHeight);
  });
}

// From two blocks of channels to one, with nothing to enlarge or to add.
template <typename T>
void convolve_same_narrowing(const ConvolveArguments<T>& a, const Queue& queue) {
  constexpr int kInputs = 2 * kChannelBlock;
  a.signs != nullptr ? launch_same<T, kInputs, kChannelBlock, InputStage::kSigns, Skip::kNone>(a, queue)
                     : launch_same<T, kInputs, kChannelBlock, InputStage::kPlain, Skip::kNone>(a, queue);
}

// From one block of channels to one or two.
template <typename T, int kOutputs>
void convolve_same(const ConvolveArguments<T>& a, bool enlarges, const Queue& queue) {
  auto launch = [&](auto input, auto skip) {
    launch_same<T, kChannelBlock, kOutputs, decltype(input)::value, decltype(skip)::value>(a, queue);
  };
  auto for_skip = [&](auto input) {
    if (a.skipped == nullptr)
      launch(input, SkipConstant<Skip::kNone>{});
    else if (a.skip.height == a.out.height && a.skip.width == a.out.width)
      launch(input, SkipConstant<Skip::kSame>{});
    else
      launch(input, SkipConstant<Skip::kEnlarged>{});
  };
  if (enlarges)
    for_skip(InputConstant<InputStage::kEnlarged>{});
  else if (a.signs != nullptr)
    for_skip(InputConstant<InputStage::kSigns>{});
  else
    for_skip(InputConstant<InputStage::kPlain>{});
}

}  // namespace lesioncore
