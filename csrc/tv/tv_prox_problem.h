// Inputs of the CUDA tv_prox_ kernels: the problem, dual fields with their boundary rule; and the kernel of the result.
//
// This header and tv_prox_tile.h, tv_prox_march.h and tv_prox_schedule.h hold all of the algorithm. A kernel is a
// sequence of phases over the threads of a block, with a barrier after each (`Block::phase`).
#pragma once

#include <cstdint>

#include "tv/pixel.h"
#include "tv/tv.h"

namespace lesioncore {

struct Problem {
  Shape shape;
  const float* v;         // [N, D, H, W]
  const bool* mask;       // [N, D, H, W]
  const float* weight;    // [N] or [1]
  int64_t weight_stride;  // 1 or 0
  float depth_weight;     // 0 if slices are not coupled

  LC_INLINE float weight_of(int64_t stack) const { return weight[stack * weight_stride]; }
  LC_INLINE float step_for(float weight_of_stack) const {
    return static_cast<float>(dual_step(static_cast<double>(weight_of_stack), static_cast<double>(depth_weight)));
  }
};

// A dual field as the kernels read it: 0 where no difference exists, whatever is stored there.
struct DualField {
  const float* data;  // [C, N, D, H, W]: C = 3 components if slices are coupled, else 2
  int64_t component;  // elements per component, N D H W

  template <bool kCoupled>
  LC_INLINE Triple<float> at(const Pixel& p, const Shape& s) const {
    return {x(p, s), y(p, s), kCoupled ? z(p, s) : 0.0f};
  }
  LC_INLINE float x(const Pixel& p, const Shape& s) const { return p.column + 1 < s.width ? data[p.offset] : 0.0f; }
  LC_INLINE float y(const Pixel& p, const Shape& s) const {
    return p.row + 1 < s.height ? data[component + p.offset] : 0.0f;
  }
  LC_INLINE float z(const Pixel& p, const Shape& s) const {
    return p.slice + 1 < s.depth ? data[2 * component + p.offset] : 0.0f;
  }

  // x to the left, y above and z in front: what K^T reads besides the pixel itself. 0 outside the stack.
  template <bool kCoupled>
  LC_INLINE Triple<float> before(const Pixel& p, const Shape& s) const {
    return {p.column > 0 ? x(left_of(p), s) : 0.0f, p.row > 0 ? y(above(p, s), s) : 0.0f,
            kCoupled && p.slice > 0 ? z(in_front_of(p, s), s) : 0.0f};
  }

  template <bool kCoupled>
  LC_INLINE float adjoint_at(const Pixel& p, const Shape& s, float depth_weight) const {
    return adjoint<kCoupled>(before<kCoupled>(p, s), at<kCoupled>(p, s), depth_weight);
  }
};

template <bool kCoupled>
static LC_INLINE void write_dual(float* field,  // [C, N, D, H, W]
                                 int64_t component, int64_t offset, Triple<float> value) {
  field[offset] = value.x;
  field[component + offset] = value.y;
  if constexpr (kCoupled) field[2 * component + offset] = value.z;
}

// True unless all components are exactly 0. NaN counts as nonzero, so that it is still propagated.
static LC_INLINE bool any_nonzero(Triple<float> t) {
  return t.x != 0.0f || t.y != 0.0f || t.z != 0.0f;
}

// The result at one pixel: out = D(field), and a copy of the field in `dual` whose far edges are cleared. A weight of 0
// gives out = mask * v and a dual of zero, one that is negative or NaN gives NaN in the mask. If `dual` is the field
// itself, only its far edges are written, which no thread reads.
// Bytes per pixel (2-D / 3-D): 13 / 17 read, 4 written, 8 / 12 more where the field is not in `dual`.
template <bool kCoupled>
LC_INLINE void result_pixel(const Problem& problem, const DualField& field,
                            float* dual,  // [C, N, D, H, W]
                            float* out,   // [N, D, H, W]
                            const Pixel& p, int64_t stack) {
  const Shape& s = problem.shape;
  const float weight = problem.weight_of(stack), v = problem.v[p.offset];
  const bool inside = problem.mask[p.offset];
  Triple<float> own = {0.0f, 0.0f, 0.0f};
  if (weight > 0.0f) {
    const float a = field.adjoint_at<kCoupled>(p, s, problem.depth_weight);
    out[p.offset] = prox_primal(v, a, a, inside, weight, 0.0f);
    own = field.at<kCoupled>(p, s);
  } else {
    const float value = weight == 0.0f ? v : __builtin_nanf("");
    out[p.offset] = inside ? value : 0.0f;
  }
  const bool copy = field.data != dual || !(weight > 0.0f);
  if (copy || p.column + 1 == s.width) dual[p.offset] = own.x;
  if (copy || p.row + 1 == s.height) dual[field.component + p.offset] = own.y;
  if constexpr (kCoupled)
    if (copy || p.slice + 1 == s.depth) dual[2 * field.component + p.offset] = own.z;
}

}  // namespace lesioncore
