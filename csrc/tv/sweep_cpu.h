// Sweep over a volume that computes the TV field of z = x - y row by row, for the CPU operators tv_gradient and
// restore_step.
//
// Rows are visited top to bottom, slices front to back, with a rolling window of the *old* difference z (two rows) and
// of the field (two rows; two planes if slices are coupled). A consumer may therefore overwrite the row of x it is
// given: its old value is no longer needed by any later row of the same band.
//
// Thread map: one band (a range of rows through all coupled slices of a stack) per task. With at least four stacks per
// thread a band is a whole stack; below that stacks are cut, and the two rows of x at each cut are copied before the
// pass, since the neighbouring band may overwrite them. A pixel's result does not depend on where the cuts are.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <memory>

#include "tv/rows.h"
#include "tv/tv.h"

namespace lesioncore {

constexpr int64_t kMinimumBand = 32;  // rows: below that the copies and the repeated row cost more than a thread brings

template <typename T>
std::unique_ptr<T[]> uninitialised(int64_t count) {
  return std::unique_ptr<T[]>(new T[static_cast<size_t>(count)]);
}

template <typename T>
TvParams<T> tv_params(const Shape& shape, double depth_weight, bool isotropic, double eps) {
  return {static_cast<T>(depth_weight), static_cast<T>(eps) * static_cast<T>(eps), isotropic,
          is_coupled(shape, depth_weight)};
}

template <typename T>
struct Volume {
  const T* x;                            // [stacks, depth, height, width]
  const T* y;                            // [stacks, depth, height, width]
  int64_t stacks, depth, height, width;  // uncoupled slices count as stacks of depth 1

  int64_t row(int64_t stack, int64_t slice, int64_t i) const { return ((stack * depth + slice) * height + i) * width; }
};

template <typename T>
class Sweep {
 public:
  // in_place: the consumer writes to x.
  Sweep(const Volume<T>& volume, const TvParams<T>& tv, bool in_place)
      : volume_(volume), tv_(tv), kernels_(row_kernels<T>()) {
    int64_t tasks = 4 * static_cast<int64_t>(torch::stable::get_num_threads());
    int64_t wanted = tasks <= 4 ? 1 : (tasks + volume.stacks - 1) / volume.stacks;
    bands_ = std::clamp(wanted, int64_t{1}, std::max(int64_t{1}, volume.height / kMinimumBand));
    if (in_place && bands_ > 1) save_cuts();
  }

  // consume(stack, offset of the row in the volume, PaddedFieldRows) for every row.
  template <typename Consumer>
  void run(const Consumer& consume) const {
    torch::stable::parallel_for(0, volume_.stacks * bands_, 1, [&](int64_t begin, int64_t end) {
      Scratch scratch(volume_.width, tv_.coupled ? longest_band() : 0);
      for (int64_t task = begin; task < end; ++task) run_band(task / bands_, task % bands_, scratch, consume);
    });
  }

 private:
  struct Scratch {
    // Each row is preceded by 16 elements, of which the last stays zero: the field left of the first column.
    Scratch(int64_t width, int64_t band)
        : stride(width + 16), rows(uninitialised<T>(7 * stride)), planes(uninitialised<T>(2 * band * width)) {
      std::fill_n(rows.get(), 7 * stride, T(0));
    }
    T* row(int index) { return rows.get() + index * stride + 16; }
    int64_t stride;
    std::unique_ptr<T[]> rows;
    std::unique_ptr<T[]> planes;
  };

  int64_t first_row(int64_t band) const { return volume_.height * band / bands_; }
  int64_t longest_band() const { return volume_.height / bands_ + 1; }

  // Rows just above and just below each inner cut, for all slices: [stack, cut, above/below, slice, width].
  void save_cuts() {
    const int64_t cuts = bands_ - 1, depth = volume_.depth, width = volume_.width;
    saved_ = uninitialised<T>(volume_.stacks * cuts * 2 * depth * width);
    torch::stable::parallel_for(0, volume_.stacks * cuts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k)
        for (int64_t below = 0; below < 2; ++below)
          for (int64_t d = 0; d < depth; ++d)
            std::copy_n(volume_.x + volume_.row(k / cuts, d, first_row(k % cuts + 1) - 1 + below), width,
                        saved_.get() + ((k * 2 + below) * depth + d) * width);
    });
  }

  // Old values of row i of x, as seen by `band`.
  const T* old_row(int64_t stack, int64_t band, int64_t d, int64_t i) const {
    if (saved_ != nullptr) {
      const int64_t cuts = bands_ - 1;
      if (i < first_row(band))
        return saved_.get() + (((stack * cuts + band - 1) * 2 + 0) * volume_.depth + d) * volume_.width;
      if (i >= first_row(band + 1))
        return saved_.get() + (((stack * cuts + band) * 2 + 1) * volume_.depth + d) * volume_.width;
    }
    return volume_.x + volume_.row(stack, d, i);
  }

  template <typename Consumer>
  void run_band(int64_t stack, int64_t band, Scratch& scratch, const Consumer& consume) const {
    const int64_t first = first_row(band), last = first_row(band + 1), width = volume_.width;
    T *z = scratch.row(0), *z_row = scratch.row(1), *z_slice = scratch.row(2);
    T *fx = scratch.row(3), *fy_before = scratch.row(4), *fy = scratch.row(5), *fz_unused = scratch.row(6);
    T *plane_before = scratch.planes.get(), *plane = plane_before + longest_band() * width * (tv_.coupled ? 1 : 0);
    if (tv_.coupled) std::fill_n(plane_before, (last - first) * width, T(0));

    auto difference = [&](int64_t d, int64_t i, T* z_out) {
      kernels_.difference(old_row(stack, band, d, i), volume_.y + volume_.row(stack, d, i), z_out, width);
    };
    for (int64_t d = 0; d < volume_.depth; ++d) {
      const bool has_next_slice = tv_.coupled && d + 1 < volume_.depth;
      if (first == 0) {
        std::fill_n(fy_before, width, T(0));
        difference(d, first, z);
      } else {  // the field of the row above the cut, for its y component
        difference(d, first - 1, z_row);
        difference(d, first, z);
        if (has_next_slice) difference(d + 1, first - 1, z_slice);
        kernels_.field(tv_, z_row, z, has_next_slice ? z_slice : z_row, fx, fy_before, fz_unused, width);
      }
      for (int64_t i = first; i < last; ++i) {
        if (i + 1 < volume_.height) difference(d, i + 1, z_row);
        if (has_next_slice) difference(d + 1, i, z_slice);
        T* fz = tv_.coupled ? plane + (i - first) * width : nullptr;
        const T* fz_before = tv_.coupled ? plane_before + (i - first) * width : nullptr;
        kernels_.field(tv_, z, i + 1 < volume_.height ? z_row : z, has_next_slice ? z_slice : z, fx, fy, fz, width);
        consume(stack, volume_.row(stack, d, i), PaddedFieldRows<T>{{fx, fy_before, fy, fz_before, fz}});
        std::swap(z, z_row);
        std::swap(fy, fy_before);
      }
      std::swap(plane, plane_before);
    }
  }

  Volume<T> volume_;
  TvParams<T> tv_;
  const RowKernels<T>& kernels_;
  int64_t bands_;
  std::unique_ptr<T[]> saved_;
};

}  // namespace lesioncore
