// Per-pixel formulas of total variation (TV): the one source of the mathematics, shared by the CPU and the CUDA
// kernels.
//
// K is the forward-difference operator of a stack of slices, zero at the far edge of each axis (no wrap-around):
//   (K z)(p) = (z(p + x) - z(p),  z(p + y) - z(p),  depth_weight * (z(p + slice) - z(p)))
// Anisotropic TV(z) = sum |K z|_1, isotropic TV(z) = sum sqrt(|K z|_2^2 + eps^2). Both have the gradient K^T f with the
// field f of `tv_field` below; K^T is `adjoint`. (Chen et al., MedIA 2020, Eq. 3-6; Beck & Teboulle 2009 for the prox.)
#pragma once

#include <cstdint>

#include "host_device.h"

namespace lesioncore {

// Sizes of a volume [N, D, H, W].
struct Shape {
  int64_t stacks, depth, height, width;
  LC_INLINE int64_t slice() const { return height * width; }
  LC_INLINE int64_t numel() const { return stacks * depth * slice(); }
};

// Whether the third axis takes part.
static LC_INLINE bool is_coupled(const Shape& shape, double depth_weight) {
  return depth_weight > 0.0 && shape.depth > 1;
}

template <typename T>
struct Triple {
  T x, y, z;
};

template <typename T>
static LC_INLINE T absolute(T t) {
  return t < T(0) ? -t : t;
}

// sign(0) = 0, the subgradient that is chosen where the difference vanishes; sign(NaN) = 0.
template <typename T>
static LC_INLINE T sign(T t) {
  return (t > T(0) ? T(1) : T(0)) - (t < T(0) ? T(1) : T(0));
}

// NaN stays NaN.
template <typename T>
static LC_INLINE T clamp(T t, T limit) {
  T low = t < -limit ? -limit : t;
  return low > limit ? limit : low;
}

// |k|_1, or sqrt(|k|_2^2 + eps^2); k = (K z)(p). If slices are uncoupled, k.z is not used.
template <bool kIsotropic, bool kCoupled, typename T>
static LC_INLINE T tv_term(Triple<T> k, T eps_squared) {
  if constexpr (kIsotropic) {
    T square = k.x * k.x + k.y * k.y;
    if constexpr (kCoupled) square += k.z * k.z;
    return square_root(square + eps_squared);
  } else {
    T sum = absolute(k.x) + absolute(k.y);
    if constexpr (kCoupled) sum += absolute(k.z);
    return sum;
  }
}

// The field f(p) with dTV/dz = K^T f: sign(k) per component, or k / sqrt(|k|_2^2 + eps^2).
template <bool kIsotropic, bool kCoupled, typename T>
static LC_INLINE Triple<T> tv_field(Triple<T> k, T eps_squared) {
  if constexpr (kIsotropic) {
    T inverse = T(1) / tv_term<true, kCoupled>(k, eps_squared);
    return {k.x * inverse, k.y * inverse, kCoupled ? k.z * inverse : T(0)};
  } else {
    return {sign(k.x), sign(k.y), kCoupled ? sign(k.z) : T(0)};
  }
}

// (K^T f)(p) from f at p (`here`) and f.x, f.y, f.z at p - x, p - y, p - slice (`before`, 0 outside the stack).
template <bool kCoupled, typename T>
static LC_INLINE T adjoint(Triple<T> before, Triple<T> here, T depth_weight) {
  T sum = (before.x - here.x) + (before.y - here.y);
  if constexpr (kCoupled) sum += depth_weight * (before.z - here.z);
  return sum;
}

// x + step_size * mask * clamp(elbo_gradient - tv_weight * tv_gradient, +-clip). The mask selects and does not
// multiply, so that a pixel outside it keeps its bits whatever the gradient holds.
template <typename T>
static LC_INLINE T restore_pixel(T x, T elbo_gradient, T tv_gradient, bool inside, T step_size, T tv_weight, T clip) {
  T updated = x + step_size * clamp(elbo_gradient - tv_weight * tv_gradient, clip);
  return inside ? updated : x;
}

// Primal point of a dual field: D(q) = mask * (v - weight * K^T q) with q = p + momentum * (p - p_before). Since K^T is
// linear, K^T q = a + momentum * (a - b) with a = K^T p and b = K^T p_before.
template <typename T>
static LC_INLINE T prox_primal(T v, T adjoint_now, T adjoint_before, bool inside, T weight, T momentum) {
  T value = v - weight * (adjoint_now + momentum * (adjoint_now - adjoint_before));
  return inside ? value : T(0);
}

// Projection onto the dual's feasible set: [-1, 1] per component, or the unit ball per pixel.
template <bool kIsotropic, bool kCoupled, typename T>
static LC_INLINE Triple<T> project(Triple<T> t) {
  if constexpr (kIsotropic) {
    T square = t.x * t.x + t.y * t.y;
    if constexpr (kCoupled) square += t.z * t.z;
    T scale = square > T(1) ? T(1) / square_root(square) : T(1);
    return {t.x * scale, t.y * scale, kCoupled ? t.z * scale : T(0)};
  } else {
    return {clamp(t.x, T(1)), clamp(t.y, T(1)), kCoupled ? clamp(t.z, T(1)) : T(0)};
  }
}

// One projected gradient step of the dual from the extrapolated point q = p + momentum * (p - p_before):
// p' = project(q + step * K D), k = (K D)(p).
template <bool kIsotropic, bool kCoupled, typename T>
static LC_INLINE Triple<T> prox_dual(Triple<T> p, Triple<T> p_before, Triple<T> k, T momentum, T step) {
  return project<kIsotropic, kCoupled>(Triple<T>{p.x + momentum * (p.x - p_before.x) + step * k.x,
                                                 p.y + momentum * (p.y - p_before.y) + step * k.y,
                                                 kCoupled ? p.z + momentum * (p.z - p_before.z) + step * k.z : T(0)});
}

// Step length 1 / (L weight) of the dual, L = |K|^2: at most 8 in 2-D, 4 (2 + depth_weight^2) in 3-D. It is capped so
// that a vanishing weight does not lead to inf * 0.
static LC_INLINE double dual_step(double weight, double depth_weight) {
  double step = 1.0 / (4.0 * (2.0 + depth_weight * depth_weight) * weight);
  return step < 1e30 ? step : 1e30;
}

// Momentum of the next iteration from Nesterov's sequence t, which is 1 before the first iteration; advances `t`.
static LC_INLINE double next_momentum(double& t) {
  double next = 0.5 * (1.0 + square_root(1.0 + 4.0 * t * t));
  double momentum = (t - 1.0) / next;
  t = next;
  return momentum;
}

}  // namespace lesioncore
