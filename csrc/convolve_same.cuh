// convolve from 16 channels to 16 or 32 with stride 1 and a border of zeros, on tensor cores.
//
// Bytes: the input is read once and a little more at the strips' borders, the output written once.
#pragma once

#include "strip_rows.cuh"

namespace lesioncore {

// Outputs beyond sixteen belong to further warps. kBatch rows of input meet the weights together, so that one read of
// them from shared memory serves all; two sums are not complete then and roll on.
constexpr int kSameColumns = kStripPixels - 2;

template <int kOutputs>
struct SameMemory {
  float4 ring[2][kBatch][slots(kStripPixels + 2)];
  uint4 weights[kOutputs / kSixteen][kTaps * 2][32];
  RowBlends blends, skip_blends;
};

template <typename T, int kOutputs, Entry kEntry, Skip kSkip, bool kActivate>
__global__ void __launch_bounds__(kStripThreads* kOutputs / kSixteen, 32 / kOutputs)
    same_kernel(const ConvolveArguments<T> a, int rows) {
  auto& memory = *dynamic_shared<SameMemory<kOutputs>>();
  auto& ring = memory.ring;
  auto& weights = memory.weights;
  const int lane = threadIdx.x % 32, tile = threadIdx.x / 32 % kStripWarps, block = threadIdx.x / kStripThreads;
  const int height = a.out.height, width = a.out.width, left = blockIdx.x * kSameColumns;
  for (int i = tile; i < kTaps * 2; i += kStripWarps)
    weights[block][i][lane] = weights_of(i % 2, [&](int output, int channel) {
      return load<1>(a.weight + ((block * kSixteen + output) * kTaps + i / 2) * kSixteen + channel).v[0];
    });
  const bool reads = threadIdx.x < kStripThreads;
  for (int i = threadIdx.x; i < 2 * kBatch * slots(kStripPixels + 2); i += blockDim.x)
    ring[0][0][i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);  // pixels beyond the strip are read, but not needed
  __syncthreads();
  const int pixel = tile * 8 + read_pixel();
  const int from[3] = {slot(pixel) + lane % 4, slot(pixel + 1) + lane % 4, slot(pixel + 2) + lane % 4};
  const int to = slot(threadIdx.x / 4) + threadIdx.x % 4;
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    for (int top = blockIdx.y * rows; top < height; top += gridDim.y * rows) {
      const int bottom = min(top + rows, height);
      if constexpr (kEntry == Entry::kEnlarged) memory.blends.fill(a.axes.rows, top - 1, height, true);
      if constexpr (kSkip == Skip::kEnlarged) memory.skip_blends.fill(a.skip_axes.rows, top - 2, height, false);
      if constexpr (kEntry == Entry::kEnlarged || kSkip == Skip::kEnlarged) __syncthreads();
      ColumnReader<T, kEntry, kBatch> reader(a, slice, left - 1 + static_cast<int>(threadIdx.x) / 4, threadIdx.x % 4,
                                             height, width, &memory.blends, top - 1);
      Exit<T, kOutputs, kSkip, kActivate, kBatch> exit(
          a, slice, left + tile * 8 + lane % 4, min(left + kSameColumns, width), block, &memory.skip_blends, top - 2);
      auto keep = [&](int which, int first) {
        reader.take(first, [&](int k, const float4& values) { ring[which][k][to] = values; });
      };
      if (reads) {
        reader.fetch(top - 1);
        keep(0, top - 1);
      }
      __syncthreads();
      float sums[kBatch + 2][4] = {};  // of the output rows from first - 1 on
      int now = 0;
      for (int first = top - 1; first <= bottom; first += kBatch, now = 1 - now) {
        const bool more = reads && first + kBatch <= bottom;
        if (more) reader.fetch(first + kBatch);
        if (kSkip == Skip::kSame) exit.fetch(first - 1);
#pragma unroll
        for (int dx = 0; dx < 3; ++dx) {
          float4 values[kBatch];
#pragma unroll
          for (int k = 0; k < kBatch; ++k) values[k] = ring[now][k][from[dx]];
#pragma unroll
          for (int dy = 0; dy < 3; ++dy) {
#pragma unroll
            for (int step = 0; step < 2; ++step) {
              const uint4 w = weights[block][(dy * 3 + dx) * 2 + step][lane];
#pragma unroll
              for (int k = 0; k < kBatch; ++k)
                multiply_add(sums[k + 2 - dy], w,
                             step == 0 ? make_float2(values[k].x, values[k].y) : make_float2(values[k].z, values[k].w));
            }
          }
        }
        if (kSkip == Skip::kEnlarged) exit.fetch(first - 1);  // only now are there registers enough
        exit.put(first - 1, top, bottom, sums);
        copy(sums[0], sums[kBatch]), copy(sums[1], sums[kBatch + 1]);
#pragma unroll
        for (int k = 2; k < kBatch + 2; ++k) set_zero(sums[k]);
        if (more) keep(1 - now, first + kBatch);
        __syncthreads();
      }
    }
  }
}

template <typename T, int kOutputs>
void convolve_same(const ConvolveArguments<T>& a, bool enlarges, const Queue& queue) {
  const dim3 grid = strip_grid(a.out.width, kSameColumns, a.out.height, a.out.count);
  auto launch = [&](auto entry, auto skip) {
    for_activation(a, [&](auto activate) {
      const auto kernel =
          same_kernel<T, kOutputs, decltype(entry)::value, decltype(skip)::value, decltype(activate)::value>;
      queue.launch(kernel, grid, dim3(kStripThreads * kOutputs / kSixteen), sizeof(SameMemory<kOutputs>), a,
                   kStripHeight);
    });
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
    for_skip(std::integral_constant<Entry, Entry::kEnlarged>{});
  else if (a.signs != nullptr)
    for_skip(std::integral_constant<Entry, Entry::kSigns>{});
  else
    for_skip(std::integral_constant<Entry, Entry::kPlain>{});
}

}  // namespace lesioncore
