// Input stage of the strip convolutions: a thread reads four channels of a column, enlarged or taken through the
// gradient of a leaky-ReLU, and rounds them to TF32.
#pragma once

#include "maps/convolve_arguments.cuh"
#include "maps/convolve_strip_enlarge.cuh"

namespace lesioncore {

// Four of kInputs channels of one column of the input, kRows rows at a time. Rows beyond the map are zero; of columns
// beyond it, nothing is put anywhere. `fetch` only starts the reads, many at once, because only so is the memory kept
// busy.
template <typename T, InputStage kInput, int kRows, int kInputs = kChannelBlock>
class ColumnReader {
 public:
  // `part` of the channels, by fours. Height and width are those of the map that is multiplied, which is the enlarged
  // one if `blends` has its rows from `begin` on.
  __device__ __forceinline__ ColumnReader(const ConvolveArguments<T>& a, int64_t slice, int column, int part,
                                          int height, int width, const RowBlends* blends = nullptr, int begin = 0)
      : height_(height),
        begin_(begin),
        inside_(column >= 0 && column < width),
        row_stride_(static_cast<int>(a.x.width) * kInputs) {
    column = clamp_index(column, 0, width - 1);
    map_ = a.input + slice * a.x.height * row_stride_ + part * 4;
    if constexpr (kInput == InputStage::kEnlarged)
      enlarged_ = EnlargedBatch<T, 4, 1>(map_, a.axes, *blends, column, 0, width, kInputs);
    else
      map_ += column * kInputs;
    if constexpr (kInput == InputStage::kSigns) {
      signs_ = a.signs + (slice * height * width + column) * (kInputs / 8) + part / 2;
      shift_ = part % 2 * 4, slope_ = a.slope, signs_stride_ = width * (kInputs / 8);
    }
  }

  __device__ __forceinline__ void fetch(int top) {
    if constexpr (kInput == InputStage::kEnlarged) {
      enlarged_.fetch(top - begin_);
    } else {
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        const int row = clamp_index(top + k, 0, height_ - 1);
        fetched_[k] = load<4>(map_ + row * row_stride_);
        if constexpr (kInput == InputStage::kSigns) bits_[k] = signs_[row * signs_stride_];
      }
    }
  }

  // Calls put(k, values) for the rows top + k that were fetched.
  template <typename F>
  __device__ __forceinline__ void take(int top, const F& put) {
    if (!inside_) return;
    if constexpr (kInput == InputStage::kEnlarged) enlarged_.mix();
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      Channels<4> c[1];
      if constexpr (kInput == InputStage::kEnlarged)
        enlarged_.value(top - begin_ + k, c);
      else
        c[0] = fetched_[k];
      if constexpr (kInput == InputStage::kSigns) apply_leaky_gradient(c[0], bits_[k] >> shift_, slope_);
      const bool valid = kInput == InputStage::kEnlarged || (top + k >= 0 && top + k < height_);
      auto value = [&](int i) { return valid ? to_tf32(c[0].v[i]) : 0.0f; };
      put(k, make_float4(value(0), value(1), value(2), value(3)));
    }
  }

 private:
  const T* map_;  // [H, W, kInputs] from the part's first channel on; if not enlarged, also from the column on
  int height_, begin_;
  bool inside_;
  int row_stride_;
  EnlargedBatch<T, 4, 1> enlarged_;
  Channels<4> fetched_[kRows];
  const uint8_t* signs_;  // [H, W, kInputs / 8] from the column's byte with the part on
  unsigned bits_[kRows];
  int shift_, signs_stride_;
  float slope_;
};

}  // namespace lesioncore
