// Parallel loop over rows, enlarged rows and signs, for the CPU operators on feature maps.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "element_type_cpu.h"
#include "maps/map_checks.h"

namespace lesioncore {

// Calls f(slice, row) for every row of a map.
template <typename F>
void for_rows(const MapShape& s, const F& f) {
  if (s.numel() == 0) return;
  const int64_t grain = std::max<int64_t>(1, 16384 / (s.width * s.channels));
  torch::stable::parallel_for(0, s.count * s.height, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r / s.height, r % s.height);
  });
}

// One row of an enlarged map, whose values are computed when they are asked for. The map may be null if none are.
template <typename T>
class EnlargedRow {
 public:
  EnlargedRow(const T* map,  // [N, h, w, C], `small`, or null
              const MapShape& small, const MapShape& large, int64_t slice, int64_t row)
      : columns_(small.width, large.width), channels_(small.channels) {
    if (map == nullptr) return;
    const Blend<T> rows = Axis<T>(small.height, large.height).at(static_cast<int>(row));
    const int64_t stride = small.width * small.channels;
    first_ = map + (slice * small.height + rows.first) * stride;
    second_ = map + (slice * small.height + rows.second) * stride;
    weight_ = rows.weight;
  }

  T at(const Blend<T>& columns, int64_t channel) const {
    auto across = [&](const T* row) {
      const T a = row[columns.first * channels_ + channel], b = row[columns.second * channels_ + channel];
      return a + columns.weight * (b - a);
    };
    const T above = across(first_), below = across(second_);
    return above + weight_ * (below - above);
  }

  Blend<T> columns(int64_t column) const { return columns_.at(static_cast<int>(column)); }

 private:
  const T *first_ = nullptr, *second_ = nullptr;  // [w, C]: the rows of the small map that are blended
  T weight_ = T(0);
  Axis<T> columns_;
  int64_t channels_;
};

// The bit of one channel.
inline bool positive(const uint8_t* signs,  // [pixels, channels / 8]
                     int64_t pixel, int64_t channel, int64_t channels) {
  return signs[pixel * (channels / 8) + channel / 8] >> (channel % 8) & 1;
}

}  // namespace lesioncore
