// Output stage of the strip convolutions: bias, skip connection and activation are applied to sums before they are
// written.
#pragma once

#include "maps/convolve_arguments.cuh"
#include "maps/convolve_strip_enlarge.cuh"

namespace lesioncore {

// Writes the sums of two channels of two pixels, which a lane ends with (convolve_strip_products.cuh), kRows rows at a
// time.
template <typename T, int kOutputs, Skip kSkip, bool kActivate, int kRows>
class OutputWriter {
 public:
  // The lane's pixels are `column` and the fourth after it, as far as they lie before `end`; `block` is the number of
  // the block of 16 outputs. `blends` has the rows from `begin` on of a skip connection that is enlarged.
  __device__ __forceinline__ OutputWriter(const ConvolveArguments<T>& a, int64_t slice, int column, int end, int block,
                                          const RowBlends* blends = nullptr, int begin = 0)
      : slope_(a.slope), height_(static_cast<int>(a.out.height)), begin_(begin) {
#pragma unroll
    for (int i = 0; i < 2; ++i) valid_[i] = column + 4 * i < end;
    const int channel = block * kChannelBlock + threadIdx.x % 32 / 4 * 2;
    if (a.bias != nullptr) bias_ = load<2>(a.bias + channel);
    row_stride_ = static_cast<int>(a.out.width) * kOutputs;
    const int64_t at = slice * height_ * row_stride_ + column * kOutputs + channel;
    result_ = a.result + at;
    if constexpr (kActivate) signs_ = a.out_signs + at / 8;
    if constexpr (kSkip == Skip::kSame) same_ = a.skipped + at;
    if constexpr (kSkip == Skip::kEnlarged)
      skipped_ = EnlargedBatch<T, 2, 2>(a.skipped + slice * a.skip.height * a.skip.width * kOutputs + channel,
                                        a.skip_axes, *blends, column, 4, a.out.width, kOutputs);
  }

  // Starts the reads of the skip connection for the kRows rows from `top` on.
  __device__ __forceinline__ void fetch(int top) {
    if constexpr (kSkip == Skip::kEnlarged) skipped_.fetch(top - begin_);
    if constexpr (kSkip == Skip::kSame) {
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        const int row = clamp_index(top + k, 0, height_ - 1);
#pragma unroll
        for (int i = 0; i < 2; ++i)
          if (valid_[i]) skip_[k][i] = load<2>(same_ + row * row_stride_ + 4 * i * kOutputs);
      }
    }
  }

  // Writes the rows top + k that lie in [begin, end).
  __device__ __forceinline__ void put(int top, int begin, int end,
                                      const float (*sums)[4]) {  // [kRows, 4], of the lane
    if constexpr (kSkip == Skip::kEnlarged) skipped_.mix();
#pragma unroll
    for (int k = 0; k < kRows; ++k)
      if (top + k >= begin && top + k < end) put_row(top + k, k, sums[k]);
  }

 private:
  __device__ __forceinline__ void put_row(int row, int k, const float (&sums)[4]) {
    if constexpr (kSkip == Skip::kEnlarged) skipped_.value(row - begin_, skip_[k]);
    Channels<2> c[2];
    unsigned signs = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        float value = sums[2 * m + i] + bias_.v[m];
        if constexpr (kSkip != Skip::kNone) value += skip_[k][i].v[m];
        if constexpr (kActivate) {
          signs |= static_cast<unsigned>(value > 0.0f) << (16 * i + m);
          value = leaky(value, slope_);
        }
        c[i].v[m] = value;
      }
    }
    if constexpr (kActivate) {  // 16 bits for each of the two pixels, gathered from the eight lanes that have them
      signs <<= threadIdx.x % 32 / 4 * 2;
#pragma unroll
      for (int lanes = 4; lanes <= 16; lanes *= 2) signs |= __shfl_xor_sync(0xffffffffu, signs, lanes);
    }
    T* to = result_ + row * row_stride_;
    uint8_t* bits = kActivate ? signs_ + row * (row_stride_ / 8) : nullptr;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!valid_[i]) continue;
      store<2>(to + 4 * i * kOutputs, c[i]);
      if (kActivate && threadIdx.x % 32 < 4)
        *reinterpret_cast<uint16_t*>(bits + 4 * i * (kOutputs / 8)) = static_cast<uint16_t>(signs >> (16 * i));
    }
  }

  float slope_;
  int height_, begin_, row_stride_;
  bool valid_[2];
  T* result_;       // [H, W, kOutputs] from the lane's first pixel and channel on
  uint8_t* signs_;  // [H, W, kOutputs / 8] likewise
  const T* same_;   // [H, W, kOutputs] likewise, of the skip connection
  Channels<2> bias_ = {}, skip_[kRows][2];
  EnlargedBatch<T, 2, 2> skipped_;
};

}  // namespace lesioncore
