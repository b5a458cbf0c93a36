// Row kernels of the CPU: plain pointers in, one image row per call. rows_cpu.cpp is compiled once per instruction set;
// rows_dispatch.cpp picks the table that this processor can run. Nothing here may include torch or standard containers.
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

// Rows of a dual field around the current one. `x` is preceded by one readable element, x[-1] = 0. `z*` only if
// coupled.
template <typename T>
struct FieldRows {
  const T* x;
  const T* y_before;
  const T* y;
  const T* z_before;
  const T* z;
};

template <typename T>
struct RestoreRow {
  const T* x;
  const T* elbo_gradient;
  const uint8_t* mask;
  T* out;  // may be x
  T step_size;
  T tv_weight;
  T clip;
};

// The same for the dual variable of the prox, whose rows lie in the caller's tensor: no element before x.
template <typename T>
struct DualRows {
  const T* x;
  const T* y_before;
  const T* y;
  const T* z_before;
  const T* z;
};

template <typename T>
struct RowKernels {
  // z = x - y
  void (*difference)(const T* x, const T* y, T* z, int64_t width);
  // f = tv_field(K z). Pass z itself as z_row / z_slice at the far edge, which makes that difference zero.
  void (*field)(const TvParams<T>&, const T* z, const T* z_row, const T* z_slice, T* fx, T* fy, T* fz, int64_t width);
  // out = K^T f
  void (*gradient)(const TvParams<T>&, const FieldRows<T>&, T* out, int64_t width);
  // out = restore_pixel(x, elbo_gradient, K^T f, ...)
  void (*restore)(const TvParams<T>&, const FieldRows<T>&, const RestoreRow<T>&, int64_t width);
  // sum of tv_term over the row, in double, in an order that only `width` decides
  double (*value)(const TvParams<T>&, const T* z, const T* z_row, const T* z_slice, int64_t width);
  // out = prox_primal(v, K^T p, K^T p_before, ...)
  void (*primal)(const TvParams<T>&, const DualRows<T>& p, const DualRows<T>& p_before, const T* v, const uint8_t* mask,
                 T weight, T momentum, T* out, int64_t width);
  // next = prox_dual(...) at one row; next_* may be p_before's rows.
  void (*dual)(const TvParams<T>&, const T* d, const T* d_row, const T* d_slice, const DualRows<T>& p,
               const DualRows<T>& p_before, T momentum, T step, T* next_x, T* next_y, T* next_z, int64_t width);
};

// The table for this processor (LESIONCORE_CPU may name a lower level), decided once.
template <typename T>
const RowKernels<T>& row_kernels();

}  // namespace lesioncore
