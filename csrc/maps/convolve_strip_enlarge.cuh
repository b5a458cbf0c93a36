// Bilinear enlargement within the strip convolutions, a batch of rows at a time and without the large map in memory.
#pragma once

#include "maps/convolve_strip_walk.cuh"

namespace lesioncore {

static __device__ __forceinline__ int clamp_index(int value, int low, int high) {
  return min(max(value, low), high);
}

// The large map has at least twice as many rows as the small one, so that the kBatchRows rows of a batch lie between
// the same kBlendSources rows of the small map.
constexpr int kBatchRows = 4;
constexpr int kBlendSources = 4;
constexpr int kBlendedRows = (kStripHeight + 2 + kBatchRows - 1) / kBatchRows * kBatchRows;

// How each row of a strip is a sum of rows of the small map; in shared memory, for all threads of a block.
struct RowBlends {
  float4 weights[kBlendedRows];          // of the kBlendSources rows
  int first[kBlendedRows / kBatchRows];  // the first of those rows, for each batch

  // For the large map's rows from `begin` on. Rows beyond the map are zero, or the same as the row at its edge.
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

// kCount channels of kColumns columns of an enlarged map, a batch of rows at a time.
template <typename T, int kCount, int kColumns>
class EnlargedBatch {
 public:
  EnlargedBatch() = default;

  // The columns are `column`, column + apart, ...; `width` is that of the large map.
  __device__ __forceinline__
  EnlargedBatch(const T* map,  // [h, w, channels]: a slice of the small map, from a channel on
                const Axes& axes, const RowBlends& blends, int column, int apart, int width, int channels)
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
    for (int j = 0; j < kBlendSources; ++j) {
      const T* from = map_ + min(first + j, last_) * row_stride_;
#pragma unroll
      for (int i = 0; i < kColumns; ++i)
        ends_[j][i][0] = load<kCount>(from + left_[i]), ends_[j][i][1] = load<kCount>(from + right_[i]);
    }
  }

  // Blends along the rows. It must be called once after each `fetch`.
  __device__ __forceinline__ void mix() {
#pragma unroll
    for (int j = 0; j < kBlendSources; ++j) {
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

  // The values of row `row` of the strip, which lies in the batch.
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
  Channels<kCount> ends_[kBlendSources][kColumns]
                        [2];  // left and right of the column; after `mix`, the blend is the left
};

}  // namespace lesioncore
