// Row kernels of the CPU operators on volumes: each call computes one image row, `width` pixels, from plain pointers.
//
// rows_cpu.cpp is compiled once per instruction set, and rows_dispatch.cpp picks the table that this processor can run.
// This header includes neither torch nor standard containers, whose inline functions would be compiled for a newer
// processor and might be linked in place of those for an older one.
#pragma once

#include <cstdint>

namespace lesioncore {

template <typename T>
struct TvParams {
  T depth_weight;
  T eps_squared;
  bool isotropic;
  bool coupled;  // depth_weight != 0 and more than one slice: the third axis takes part
};

// Rows of a field (f or a dual variable p) that K^T reads for one row of its result: the row itself, and for y and z
// also the row above and that of the slice in front.
template <typename T>
struct FieldRows {
  const T* x;         // [width]
  const T* y_before;  // [width], zeros for the first row of a slice
  const T* y;         // [width]
  const T* z_before;  // [width] if coupled, zeros for the first slice
  const T* z;         // [width] if coupled
};

// The same where x[-1] may be read, too, and is 0: the left neighbour of the first pixel needs no branch.
template <typename T>
struct PaddedFieldRows : FieldRows<T> {};

template <typename T>
struct RestoreRow {
  const T* x;              // [width]
  const T* elbo_gradient;  // [width]
  const uint8_t* mask;     // [width]
  T* out;                  // [width], may be x
  T step_size;
  T tv_weight;
  T clip;
};

// All pointers are to [width] elements.
template <typename T>
struct RowKernels {
  // z = x - y
  void (*difference)(const T* x, const T* y, T* z, int64_t width);
  // f = tv_field(K z). z_row is the row below, z_slice that of the slice behind; at the far edge of their axis z itself
  // stands in for them, which makes the difference zero.
  void (*field)(const TvParams<T>&, const T* z, const T* z_row, const T* z_slice, T* fx, T* fy, T* fz, int64_t width);
  // out = K^T f
  void (*gradient)(const TvParams<T>&, const PaddedFieldRows<T>&, T* out, int64_t width);
  // out = restore_pixel(x, elbo_gradient, K^T f, ...)
  void (*restore)(const TvParams<T>&, const PaddedFieldRows<T>&, const RestoreRow<T>&, int64_t width);
  // sum of tv_term over the row, in double, in an order that only `width` decides
  double (*value)(const TvParams<T>&, const T* z, const T* z_row, const T* z_slice, int64_t width);
  // out = prox_primal(v, K^T p, K^T p_before, ...)
  void (*primal)(const TvParams<T>&, const FieldRows<T>& p, const FieldRows<T>& p_before, const T* v,
                 const uint8_t* mask, T weight, T momentum, T* out, int64_t width);
  // next = prox_dual(...) at one row; next_* may be p_before's rows.
  void (*dual)(const TvParams<T>&, const T* d, const T* d_row, const T* d_slice, const FieldRows<T>& p,
               const FieldRows<T>& p_before, T momentum, T step, T* next_x, T* next_y, T* next_z, int64_t width);
};

// The table for this processor (LESIONCORE_CPU may name a lower level), decided once.
template <typename T>
const RowKernels<T>& row_kernels();

}  // namespace lesioncore
