// Gradient of total variation at one pixel, from the pixel's neighbours in memory: the formulas of tv.h on a volume.
#pragma once

#include <cstdint>
#include <type_traits>

#include "tv/pixels_cuda.cuh"
#include "tv/tv.h"

namespace lesioncore {

// (K z)(pixel), zero across the far edges. z(offset) reads one value.
template <bool kCoupled, typename T, typename Z>
__device__ __forceinline__ Triple<T> forward_differences(const Z& z, const Pixel& p, const Shape& s, T depth_weight) {
  const T here = z(p.offset);
  Triple<T> k = {p.column + 1 < s.width ? z(p.offset + 1) - here : T(0),
                 p.row + 1 < s.height ? z(p.offset + s.width) - here : T(0), T(0)};
  if constexpr (kCoupled) k.z = p.slice + 1 < s.depth ? depth_weight * (z(p.offset + s.slice()) - here) : T(0);
  return k;
}

// K^T f(K z) at one pixel. The compiler leaves out the components of f that are not used.
template <bool kIsotropic, bool kCoupled, typename T, typename Z>
__device__ __forceinline__ T tv_gradient_at(const Z& z, const Pixel& p, const Shape& s, T depth_weight, T eps_squared) {
  auto field = [&](const Pixel& at) {
    return tv_field<kIsotropic, kCoupled>(forward_differences<kCoupled>(z, at, s, depth_weight), eps_squared);
  };
  Triple<T> before = {p.column > 0 ? field(left_of(p)).x : T(0), p.row > 0 ? field(above(p, s)).y : T(0), T(0)};
  if constexpr (kCoupled) before.z = p.slice > 0 ? field(in_front_of(p, s)).z : T(0);
  return adjoint<kCoupled>(before, field(p), depth_weight);
}

// Calls launch(isotropic, coupled) with the two as compile-time constants.
template <typename F>
void for_variant(bool isotropic, bool coupled, const F& launch) {
  auto with_coupling = [&](auto iso) { coupled ? launch(iso, std::true_type{}) : launch(iso, std::false_type{}); };
  isotropic ? with_coupling(std::true_type{}) : with_coupling(std::false_type{});
}

}  // namespace lesioncore
