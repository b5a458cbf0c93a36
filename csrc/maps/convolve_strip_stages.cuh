// What stands round the products of a strip (convolve_strip_products.cuh): on the way in the map is enlarged or taken through an
// activation's signs, on the way out bias, skip connection and activation follow.
#pragma once

#include "maps/convolve_strip_products.cuh"

namespace lesioncore {

template <typename T>
struct ConvolveArguments {
  MapShape x, skip, out;
  Axes axes, skip_axes;  // from x and skip to out
  const T *input, *weight, *bias, *skipped;
  const uint8_t* signs;
  float slope;
  T* result;
  uint8_t* out_signs;
};

enum class InputStage { kPlain, kSigns, kEnlarged };

static __device__ __forceinline__ int clamp_index(int value, int low, int high) {
  return min(max(value, low), high);
}

// Rows of a block: few, so that there are blocks enough for every processor, but many more than the border's.
constexpr int kStripHeight = 50;

// How a strip's rows of an enlarged map are made of the small map's, for all threads of a block: each of a batch is a sum
// of the same four rows, between which they lie, since that map has half as many or fewer.
constexpr int kBatchRows = 4;
constexpr int kBlendedRows = (kStripHeight + 2 + kBatchRows - 1) / kBatchRows * kBatchRows;

struct RowBlends {
  float4 weights[kBlendedRows];
  int first[kBlendedRows / kBatchRows];

  // For the rows from `begin` on. Those beyond the map are 0, or those at its edge.
  __device__ __forceinline__ void fill(const Axis<float>& axis, int begin, int height, bool zero_beyond) {
    auto at = [&](int row) { return axis.at(clamp_index(row, 0, height - 1)); };
    for (int i = threadIdx.x; i < kBlendedRows; i += blockDim.x) {
      const int row = begin + i, from = at(begin + i / kBatchRows * kBatchRows).first;
      const Blend<float> blend = at(row);
      const float scale = zero_beyond && (row < 0 || row >= height) ? 0.0f : 1.0f;
      weights[i] = make_float4(scale * blend.of(from), scale * blend.of(from + 1), scale * blend.of(from + 2),
                               scale * blend.of(from + 3));
      if (i % kBatchRows == 0) first[i / kBatchRows] = from;
    }
  }
};

// Some channels of kColumns columns of an enlarged map, a batch of rows at a time.
template <typename T, int kCount, int kColumns>
class EnlargedBatch {
 public:
  EnlargedBatch() = default;

  // `map` is one slice of the small map, at the first of the channels; the columns lie `apart`.
  __device__ __forceinline__ EnlargedBatch(const T* map, const Axes& axes, const RowBlends& blends, int column,
                                           int apart, int width, int channels)
      : map_(map), blends_(&blends), last_(axes.rows.small - 1), row_stride_(axes.columns.small * channels) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const Blend<float> columns = axes.columns.at(clamp_index(column + i * apart, 0, width - 1));
      left_[i] = columns.first * channels, right_[i] = columns.second * channels, across_[i] = columns.weight;
    }
  }

  // Starts the reads for the batch from row `top` of the strip on.
  __device__ __forceinline__ void fetch(int top) {
    const int first = blends_->first[top / kBatchRows];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const T* from = map_ + min(first + j, last_) * row_stride_;
#pragma unroll
      for (int i = 0; i < kColumns; ++i)
        ends_[j][i][0] = load<kCount>(from + left_[i]), ends_[j][i][1] = load<kCount>(from + right_[i]);
    }
  }

  // To be called once after each `fetch`.
  __device__ __forceinline__ void mix() {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
#pragma unroll
        for (int c = 0; c < kCount; ++c) {
          float& left = ends_[j][i][0].v[c];
          left = fmaf(across_[i], ends_[j][i][1].v[c] - left, left);
        }
      }
    }
  }

  // Row `row` of the strip.
  __device__ __forceinline__ void value(int row, Channels<kCount> (&values)[kColumns]) const {
    const float4 w = blends_->weights[row];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        const float upper = fmaf(w.y, ends_[1][i][0].v[c], w.x * ends_[0][i][0].v[c]);
        values[i].v[c] = fmaf(w.w, ends_[3][i][0].v[c], fmaf(w.z, ends_[2][i][0].v[c], upper));
      }
    }
  }

 private:
  const T* map_;
  const RowBlends* blends_;
  int last_, row_stride_, left_[kColumns], right_[kColumns];
  float across_[kColumns];
  Channels<kCount> ends_[4][kColumns][2];
};

// Four of kInputs channels of one column of the input, kRows rows at a time; rows beyond the map are zero, columns beyond
// it nothing. `fetch` only starts the reads, many at once: it takes that to keep the memory busy.
template <typename T, InputStage kInput, int kRows, int kInputs = kChannelBlock>
class ColumnReader {
 public:
  // Height and width are the map's as the kernel sees it, that is, enlarged, by `blends` for the rows from `begin` on.
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

  // Calls put(k, values) for the rows that were fetched, rounded.
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
  const T* map_;
  int height_, begin_;
  bool inside_;
  int row_stride_;
  EnlargedBatch<T, 4, 1> enlarged_;
  Channels<4> fetched_[kRows];
  const uint8_t* signs_;
  unsigned bits_[kRows];
  int shift_, signs_stride_;
  float slope_;
};

// What happens to the sums of two pixels' two channels before they are written, kRows rows at a time.
template <typename T, int kOutputs, Skip kSkip, bool kActivate, int kRows>
class OutputWriter {
 public:
  // The lane's pixels are `column` and the fourth after it, as far as they lie before `end`; `block` of sixteen outputs.
  // `blends` has the rows from `begin` on of a skip connection that is enlarged.
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

  // Starts the reads for the kRows rows from `top` on.
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

  // Writes those of them that lie in [begin, end).
  __device__ __forceinline__ void put(int top, int begin, int end, const float (*sums)[4]) {
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
    if constexpr (kActivate) {  // sixteen bits for each of the two pixels, gathered from the eight lanes that have them
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
  T* result_;
  uint8_t* signs_;
  const T* same_;
  Channels<2> bias_ = {}, skip_[kRows][2];
  EnlargedBatch<T, 2, 2> skipped_;
};

inline dim3 strip_grid(int64_t width, int64_t columns, int64_t height, int64_t count) {
  return dim3(static_cast<unsigned>((width + columns - 1) / columns),
              static_cast<unsigned>(std::min<int64_t>((height + kStripHeight - 1) / kStripHeight, 65535)),
              static_cast<unsigned>(std::min<int64_t>(count, 65535)));
}

template <Skip kSkip>
using SkipConstant = std::integral_constant<Skip, kSkip>;

// Calls launch(activate) with a compile-time constant.
template <typename T, typename F>
void for_activation(const ConvolveArguments<T>& a, const F& launch) {
  a.out_signs != nullptr ? launch(std::true_type{}) : launch(std::false_type{});
}

}  // namespace lesioncore
