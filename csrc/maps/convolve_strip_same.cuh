// convolve from 16 channels to 16 or 32, and from 32 to 16, with stride 1 and a border of zeros, on tensor cores.
//
// Bytes: the input is read once and a little more at the strips' borders, the output written once.
#pragma once

#include "maps/convolve_strip_stages.cuh"

namespace lesioncore {

// Outputs beyond sixteen belong to further warps, inputs beyond sixteen are a second half in memory. kBatchRows rows of
// input meet the weights together, so that one read of them from shared memory serves all; two sums are not complete
// then and roll on.
constexpr int kSameColumns = kStripPixels - 2;

template <int kInputs, int kOutputs>
struct SameMemory {
  float4 ring[2][kInputs / kChannelBlock][kBatchRows][slots(kStripPixels + 2)];
  uint4 weights[kOutputs / kChannelBlock][kInputs / kChannelBlock][kTaps * 2][32];
  RowBlends blends, skip_blends;
};

template <typename T, int kInputs, int kOutputs, InputStage kInput, Skip kSkip, bool kActivate>
__global__ void __launch_bounds__(kStripThreads* kOutputs / kChannelBlock, 32 / kOutputs)
    same_kernel(const ConvolveArguments<T> a, int rows) {
  constexpr int kHalves = kInputs / kChannelBlock;
  auto& memory = *dynamic_shared<SameMemory<kInputs, kOutputs>>();
  auto& ring = memory.ring;
  auto& weights = memory.weights;
  const int lane = threadIdx.x % 32, tile = threadIdx.x / 32 % kStripWarps, block = threadIdx.x / kStripThreads;
  const int height = a.out.height, width = a.out.width, left = blockIdx.x * kSameColumns;
  for (int i = tile; i < kHalves * kTaps * 2; i += kStripWarps) {
    const int half = i / (kTaps * 2), tap = i / 2 % kTaps;
    weights[block][half][i % (kTaps * 2)][lane] = weights_of(i % 2, [&](int output, int channel) {
      const int row = (block * kChannelBlock + output) * kTaps + tap;
      return load<1>(a.weight + row * kInputs + half * kChannelBlock + channel).v[0];
    });
  }
  const bool reads = threadIdx.x < kStripThreads;
  for (int i = threadIdx.x; i < 2 * kHalves * kBatchRows * slots(kStripPixels + 2); i += blockDim.x)
    ring[0][0][0][i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);  // pixels beyond the strip are read, but not needed
  __syncthreads();
  const int pixel = tile * 8 + read_pixel();
  const int from[3] = {slot(pixel) + lane % 4, slot(pixel + 1) + lane % 4, slot(pixel + 2) + lane % 4};
  const int to = slot(threadIdx.x / 4) + threadIdx.x % 4;
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    for (int top = blockIdx.y * rows; top < height; top += gridDim.y * rows) {
      const int bottom = min(top + rows, height);
      if constexpr (kInput == InputStage::kEnlarged) memory.blends.fill(a.axes.rows, top - 1, height, true);
      if constexpr (kSkip == Skip::kEnlarged) memory.skip_blends.fill(a.skip_axes.rows, top - 2, height, false);
      if constexpr (kInput == InputStage::kEnlarged || kSkip == Skip::kEnlarged) __syncthreads();
      auto reader_of = [&](int half) {
        return ColumnReader<T, kInput, kBatchRows, kInputs>(a, slice, left - 1 + static_cast<int>(threadIdx.x) / 4,
                                                            half * 4 + threadIdx.x % 4, height, width, &memory.blends,
                                                            top - 1);
      };
      auto reader = reader_of(0), second = reader_of(kHalves - 1);
      OutputWriter<T, kOutputs, kSkip, kActivate, kBatchRows> exit(
          a, slice, left + tile * 8 + lane % 4, min(left + kSameColumns, width), block, &memory.skip_blends, top - 2);
      auto fetch = [&](int first) {
        reader.fetch(first);
        if constexpr (kHalves == 2) second.fetch(first);
      };
      auto keep = [&](int which, int first) {
        reader.take(first, [&](int k, const float4& values) { ring[which][0][k][to] = values; });
        if constexpr (kHalves == 2)
          second.take(first, [&](int k, const float4& values) { ring[which][1][k][to] = values; });
      };
      if (reads) {
        fetch(top - 1);
        keep(0, top - 1);
      }
      __syncthreads();
      float sums[kBatchRows + 2][4] = {};  // of the output rows from first - 1 on
      int now = 0;
      for (int first = top - 1; first <= bottom; first += kBatchRows, now = 1 - now) {
        const bool more = reads && first + kBatchRows <= bottom;
        if (more) fetch(first + kBatchRows);
        if (kSkip == Skip::kSame) exit.fetch(first - 1);
#pragma unroll
        for (int part = 0; part < kHalves * 3; ++part) {
          const int half = part / 3, dx = part % 3;
          float4 values[kBatchRows];
#pragma unroll
          for (int k = 0; k < kBatchRows; ++k) values[k] = ring[now][half][k][from[dx]];
#pragma unroll
          for (int dy = 0; dy < 3; ++dy) {
#pragma unroll
            for (int step = 0; step < 2; ++step) {
              const uint4 w = weights[block][half][(dy * 3 + dx) * 2 + step][lane];
#pragma unroll
              for (int k = 0; k < kBatchRows; ++k) multiply_add(sums[k + 2 - dy], w, channels_of(values[k], step));
            }
          }
        }
        if (kSkip == Skip::kEnlarged) exit.fetch(first - 1);  // only now are there registers enough
        exit.put(first - 1, top, bottom, sums);
        copy(sums[0], sums[kBatchRows]), copy(sums[1], sums[kBatchRows + 1]);
#pragma unroll
        for (int k = 2; k < kBatchRows + 2; ++k) set_zero(sums[k]);
        if (more) keep(1 - now, first + kBatchRows);
        __syncthreads();
      }
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

// From 32 channels to 16: with nothing to enlarge or to add.
template <typename T>
void convolve_same_narrowing(const ConvolveArguments<T>& a, const Queue& queue) {
  a.signs != nullptr ? launch_same<T, 32, kChannelBlock, InputStage::kSigns, Skip::kNone>(a, queue)
                     : launch_same<T, 32, kChannelBlock, InputStage::kPlain, Skip::kNone>(a, queue);
}

template <typename T, int kOutputs>
void convolve_same(const ConvolveArguments<T>& a, bool enlarges, const Queue& queue) {
  auto launch = [&](auto entry, auto skip) {
    launch_same<T, kChannelBlock, kOutputs, decltype(entry)::value, decltype(skip)::value>(a, queue);
  };
  auto for_skip = [&](auto entry) {
    if (a.skipped == nullptr)
      launch(entry, SkipConstant<Skip::kNone>{});
    else if (a.skip.height == a.out.height && a.skip.width == a.out.width)
      launch(entry, SkipConstant<Skip::kSame>{});
    else
      launch(entry, SkipConstant<Skip::kEnlarged>{});
  };
  if (enlarges)
    for_skip(std::integral_constant<InputStage, InputStage::kEnlarged>{});
  else if (a.signs != nullptr)
    for_skip(std::integral_constant<InputStage, InputStage::kSigns>{});
  else
    for_skip(std::integral_constant<InputStage, InputStage::kPlain>{});
}

}  // namespace lesioncore
