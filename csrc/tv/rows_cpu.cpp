// Row kernels of the CPU operators on volumes, compiled once per instruction set; LC_LEVEL names the table. See rows.h
// for the rule on includes.
//
// Every loop is free of branches and of loop-carried dependences (LC_INDEPENDENT says so to the compiler: rows are only
// ever overwritten at the index being read), so it vectorises at each level. Contraction to fused multiply-add is off:
// all levels give the same bits.
#include "tv/rows.h"
#include "tv/tv.h"

#if defined(__clang__)
#define LC_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define LC_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace lesioncore {
namespace {

constexpr int kLanes = 16;  // partial sums per row: fixes the order of summation and lets it vectorise

template <typename T>
void difference(const T* x, const T* y, T* z, int64_t width) {
  LC_INDEPENDENT
  for (int64_t j = 0; j < width; ++j) z[j] = x[j] - y[j];
}

template <bool kIsotropic, bool kCoupled, typename T>
void field_row(const TvParams<T>& tv, const T* z, const T* z_row, const T* z_slice, T* fx, T* fy, T* fz,
               int64_t width) {
  const T eps_squared = tv.eps_squared, depth_weight = tv.depth_weight;
  auto at = [&](int64_t j, T dx) {
    Triple<T> k = {dx, z_row[j] - z[j], T(0)};
    if constexpr (kCoupled) k.z = depth_weight * (z_slice[j] - z[j]);
    Triple<T> f = tv_field<kIsotropic, kCoupled>(k, eps_squared);
    fx[j] = f.x;
    fy[j] = f.y;
    if constexpr (kCoupled) fz[j] = f.z;
  };
  LC_INDEPENDENT
  for (int64_t j = 0; j < width - 1; ++j) at(j, z[j + 1] - z[j]);
  at(width - 1, T(0));
}

template <bool kCoupled, typename T>
void gradient_row(const TvParams<T>& tv, const PaddedFieldRows<T>& f, T* out, int64_t width) {
  const T depth_weight = tv.depth_weight;
  const PaddedFieldRows<T> r = f;
  LC_INDEPENDENT
  for (int64_t j = 0; j < width; ++j) {
    Triple<T> before = {r.x[j - 1], r.y_before[j], kCoupled ? r.z_before[j] : T(0)};
    Triple<T> here = {r.x[j], r.y[j], kCoupled ? r.z[j] : T(0)};
    out[j] = adjoint<kCoupled>(before, here, depth_weight);
  }
}

template <bool kCoupled, typename T>
void restore_row(const TvParams<T>& tv, const PaddedFieldRows<T>& f, const RestoreRow<T>& row, int64_t width) {
  const T depth_weight = tv.depth_weight;
  const PaddedFieldRows<T> r = f;
  const RestoreRow<T> s = row;
  LC_INDEPENDENT
  for (int64_t j = 0; j < width; ++j) {
    Triple<T> before = {r.x[j - 1], r.y_before[j], kCoupled ? r.z_before[j] : T(0)};
    Triple<T> here = {r.x[j], r.y[j], kCoupled ? r.z[j] : T(0)};
    T tv_gradient = adjoint<kCoupled>(before, here, depth_weight);
    s.out[j] = restore_pixel(s.x[j], s.elbo_gradient[j], tv_gradient, s.mask[j] != 0, s.step_size, s.tv_weight, s.clip);
  }
}

template <typename A>
double sum_lanes(const A* lanes) {
  double sum = 0.0;
  for (int lane = 0; lane < kLanes; ++lane) sum += static_cast<double>(lanes[lane]);
  return sum;
}

template <bool kIsotropic, bool kCoupled, typename T>
double value_row(const TvParams<T>& tv, const T* z, const T* z_row, const T* z_slice, int64_t width) {
  const T eps_squared = tv.eps_squared, depth_weight = tv.depth_weight;
  double lanes[kLanes] = {};
  auto term = [&](int64_t j, T dx) {
    Triple<T> k = {dx, z_row[j] - z[j], T(0)};
    if constexpr (kCoupled) k.z = depth_weight * (z_slice[j] - z[j]);
    return static_cast<double>(tv_term<kIsotropic, kCoupled>(k, eps_squared));
  };
  int64_t j = 0;
  for (; j + kLanes < width; j += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(j + lane, z[j + lane + 1] - z[j + lane]);
  for (int lane = 0; j < width - 1; ++j, ++lane) lanes[lane] += term(j, z[j + 1] - z[j]);
  return sum_lanes(lanes) + term(width - 1, T(0));
}

template <bool kCoupled, typename T>
void primal_row(const TvParams<T>& tv, const FieldRows<T>& now, const FieldRows<T>& before_now, const T* v,
                const uint8_t* mask, T weight, T momentum, T* out, int64_t width) {
  const T depth_weight = tv.depth_weight;
  const FieldRows<T> p = now, b = before_now;
  auto at = [&](int64_t j, T p_x_before, T b_x_before) {
    T adjoint_now = adjoint<kCoupled>(Triple<T>{p_x_before, p.y_before[j], kCoupled ? p.z_before[j] : T(0)},
                                      Triple<T>{p.x[j], p.y[j], kCoupled ? p.z[j] : T(0)}, depth_weight);
    T adjoint_before = adjoint<kCoupled>(Triple<T>{b_x_before, b.y_before[j], kCoupled ? b.z_before[j] : T(0)},
                                         Triple<T>{b.x[j], b.y[j], kCoupled ? b.z[j] : T(0)}, depth_weight);
    out[j] = prox_primal(v[j], adjoint_now, adjoint_before, mask[j] != 0, weight, momentum);
  };
  at(0, T(0), T(0));
  LC_INDEPENDENT
  for (int64_t j = 1; j < width; ++j) at(j, p.x[j - 1], b.x[j - 1]);
}

template <bool kIsotropic, bool kCoupled, typename T>
void dual_row(const TvParams<T>& tv, const T* d, const T* d_row, const T* d_slice, const FieldRows<T>& now,
              const FieldRows<T>& before_now, T momentum, T step, T* next_x, T* next_y, T* next_z, int64_t width) {
  const T depth_weight = tv.depth_weight;
  const FieldRows<T> p = now, b = before_now;
  auto at = [&](int64_t j, T dx) {
    Triple<T> k = {dx, d_row[j] - d[j], T(0)};
    if constexpr (kCoupled) k.z = depth_weight * (d_slice[j] - d[j]);
    Triple<T> next =
        prox_dual<kIsotropic, kCoupled>(Triple<T>{p.x[j], p.y[j], kCoupled ? p.z[j] : T(0)},
                                        Triple<T>{b.x[j], b.y[j], kCoupled ? b.z[j] : T(0)}, k, momentum, step);
    next_x[j] = next.x;
    next_y[j] = next.y;
    if constexpr (kCoupled) next_z[j] = next.z;
  };
  LC_INDEPENDENT
  for (int64_t j = 0; j < width - 1; ++j) at(j, d[j + 1] - d[j]);
  at(width - 1, T(0));
}

// One branch per row on the variant, none per pixel.
template <typename T>
void field(const TvParams<T>& tv, const T* z, const T* z_row, const T* z_slice, T* fx, T* fy, T* fz, int64_t width) {
  auto kernel = tv.isotropic ? (tv.coupled ? field_row<true, true, T> : field_row<true, false, T>)
                             : (tv.coupled ? field_row<false, true, T> : field_row<false, false, T>);
  kernel(tv, z, z_row, z_slice, fx, fy, fz, width);
}

template <typename T>
void gradient(const TvParams<T>& tv, const PaddedFieldRows<T>& f, T* out, int64_t width) {
  (tv.coupled ? gradient_row<true, T> : gradient_row<false, T>)(tv, f, out, width);
}

template <typename T>
void restore(const TvParams<T>& tv, const PaddedFieldRows<T>& f, const RestoreRow<T>& row, int64_t width) {
  (tv.coupled ? restore_row<true, T> : restore_row<false, T>)(tv, f, row, width);
}

template <typename T>
double value(const TvParams<T>& tv, const T* z, const T* z_row, const T* z_slice, int64_t width) {
  auto kernel = tv.isotropic ? (tv.coupled ? value_row<true, true, T> : value_row<true, false, T>)
                             : (tv.coupled ? value_row<false, true, T> : value_row<false, false, T>);
  return kernel(tv, z, z_row, z_slice, width);
}

template <typename T>
void primal(const TvParams<T>& tv, const FieldRows<T>& p, const FieldRows<T>& p_before, const T* v, const uint8_t* mask,
            T weight, T momentum, T* out, int64_t width) {
  (tv.coupled ? primal_row<true, T> : primal_row<false, T>)(tv, p, p_before, v, mask, weight, momentum, out, width);
}

template <typename T>
void dual(const TvParams<T>& tv, const T* d, const T* d_row, const T* d_slice, const FieldRows<T>& p,
          const FieldRows<T>& p_before, T momentum, T step, T* next_x, T* next_y, T* next_z, int64_t width) {
  auto kernel = tv.isotropic ? (tv.coupled ? dual_row<true, true, T> : dual_row<true, false, T>)
                             : (tv.coupled ? dual_row<false, true, T> : dual_row<false, false, T>);
  kernel(tv, d, d_row, d_slice, p, p_before, momentum, step, next_x, next_y, next_z, width);
}

template <typename T>
constexpr RowKernels<T> kTable = {difference<T>, field<T>, gradient<T>, restore<T>, value<T>, primal<T>, dual<T>};

}  // namespace

namespace LC_LEVEL {
extern const RowKernels<float> kFloat = kTable<float>;
extern const RowKernels<double> kDouble = kTable<double>;
}  // namespace LC_LEVEL

}  // namespace lesioncore
