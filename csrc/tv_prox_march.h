// Coupled slices: one dual iteration per launch; a block takes a column of 64 x 8 pixels through `planes` slices.
// Equations: tv_prox_cuda.cu; phases and barriers: tv_prox_problem.h.
//
// Thread map: thread (x, y) of 64 x 8 has one pixel per slice. It makes D in the slice behind, then p' in this one: p,
// the previous p, and D stay in registers from one slice to the next, D of the neighbours passes through shared memory
// (three slices: while one is written, slower threads read another, so one barrier per slice is enough). D is made once
// per pixel, and by the first 72 threads also to the right of the column and below it.
// Idle blocks (nothing in the mask in the block and next to it, p zero) stay as they are: the first launch finds them
// and clears their part of all three buffers, and the later ones return at once. A brain fills a third of its box.
// Bytes per pixel of the other blocks and iteration: 29 read (p, previous p, v, mask), 12 written: 41; and of the 29,
// 1 / planes again for D behind the block's last slice. What neighbouring columns read twice comes from L2.
//
// Why one iteration: in 3-D the halo eats what blocking in time saves. A tile that holds T iterations keeps 9 values per
// pixel and iteration while it marches (p, previous p, D, K^T p, v), so that registers and shared memory of an SM hold
// about 6000 pixels * T of them. T = 2: 60 x 28 of 64 x 32, (29 * 1.22 + 24) / 2 = 30 bytes and 1.22 times the work;
// T = 3: 42 x 26 of 48 x 32, 22 bytes and 1.4 times; T = 4: 24 x 24 of 32 x 32, 19 bytes and 1.8 times, with 2 T barriers
// per slice at 16 warps per SM; and such tiles are too large to pass over the background (one in two is idle where two
// in three of these columns are), too few for volumes of a million pixels, which lie in an H100's L2 anyhow. Cubes that
// do not march (20^3 for 16^3 at T = 2) move 40.
#pragma once

#include "tv_prox_problem.h"

namespace lesioncore {

constexpr int kColumnWidth = 64;
constexpr int kColumnHeight = 8;
constexpr int kColumnThreads = kColumnWidth * kColumnHeight;
constexpr int kHaloThreads = kColumnWidth + kColumnHeight;
constexpr int kMarchPitch = kColumnWidth + 1;
constexpr int kMarchSlice = kMarchPitch * (kColumnHeight + 1);
constexpr int kMarchFloats = 3 * kMarchSlice + 1;  // D of three slices; whether any thread is live

struct MarchGrid {
  int64_t across, down, chunks;  // blocks per stack
  int64_t planes;                // slices of a chunk
};

struct MarchPass {
  Problem problem;
  MarchGrid grid;
  DualField p, before;  // the first iteration has nothing before: p twice, and momentum 0
  float* next;
  float* idle;   // [blocks], 1: nothing to do. Written by the first iteration.
  float* spare;  // first iteration: the third buffer. Else null.
  float momentum;
};

// What a thread keeps in registers: one pixel here, and the same pixel in the slice behind.
struct MarchPixel {
  Triple<float> p, before, p_behind, before_behind;
  float d, d_behind;
  bool live;
};

struct MarchPlace {
  int64_t stack, first_row, first_column, first_slice, last_slice;  // last excluded
};

static LC_INLINE MarchPlace march_place(const MarchGrid& g, const Shape& s, int64_t block) {
  const int64_t i = block % g.across, j = block / g.across % g.down, rest = block / (g.across * g.down);
  const int64_t chunk = rest % g.chunks, end = (chunk + 1) * g.planes;
  return {rest / g.chunks, j * kColumnHeight, i * kColumnWidth, chunk * g.planes, end < s.depth ? end : s.depth};
}

static LC_INLINE Pixel march_pixel(const MarchPlace& at, const Shape& s, int64_t slice, int x, int y) {
  const int64_t row = at.first_row + y, column = at.first_column + x;
  return {((at.stack * s.depth + slice) * s.height + row) * s.width + column, slice, row, column};
}

static LC_INLINE bool on_slice(const Pixel& p, const Shape& s) {
  return p.row < s.height && p.column < s.width;
}

// Makes D of `slice`, which lies behind the present one.
static LC_INLINE void advance(const MarchPass& pass, const MarchPlace& place, float* d_of_slice, int64_t slice,
                              bool with_halo, int thread, float weight, MarchPixel& m) {
  const Problem& problem = pass.problem;
  const Shape& s = problem.shape;
  const int x = thread % kColumnWidth, y = thread / kColumnWidth;
  const Pixel here = march_pixel(place, s, slice, x, y);
  if (on_slice(here, s)) {
    Triple<float> p_around = pass.p.before<false>(here, s), before_around = pass.before.before<false>(here, s);
    p_around.z = m.p_behind.z;  // of the slice before this one
    before_around.z = m.before_behind.z;
    m.p_behind = pass.p.at<true>(here, s);
    m.before_behind = pass.before.at<true>(here, s);
    const float a = adjoint<true>(p_around, m.p_behind, problem.depth_weight);
    const float b = adjoint<true>(before_around, m.before_behind, problem.depth_weight);
    const bool inside = problem.mask[here.offset];
    m.d_behind = prox_primal(problem.v[here.offset], a, b, inside, weight, pass.momentum);
    m.live |= inside || any_nonzero(m.p_behind);
    d_of_slice[y * kMarchPitch + x] = m.d_behind;
  }
  if (!with_halo || thread >= kHaloThreads) return;
  const int halo_x = thread < kColumnWidth ? thread : kColumnWidth;
  const int halo_y = thread < kColumnWidth ? kColumnHeight : thread - kColumnWidth;
  const Pixel next = march_pixel(place, s, slice, halo_x, halo_y);
  if (!on_slice(next, s)) return;
  const bool inside = problem.mask[next.offset];
  float d = 0.0f;
  if (inside)  // else not even read
    d = prox_primal(problem.v[next.offset], pass.p.adjoint_at<true>(next, s, problem.depth_weight),
                    pass.before.adjoint_at<true>(next, s, problem.depth_weight), true, weight, pass.momentum);
  m.live |= inside;
  d_of_slice[halo_y * kMarchPitch + halo_x] = d;
}

template <bool kIsotropic>
static LC_INLINE void march_dual(const MarchPass& pass, const MarchPlace& place, const float* d_of_slice, int64_t slice,
                                 int thread, float step, const MarchPixel& m) {
  const Shape& s = pass.problem.shape;
  const int x = thread % kColumnWidth, y = thread / kColumnWidth;
  const Pixel here = march_pixel(place, s, slice, x, y);
  if (!on_slice(here, s)) return;
  const float* d = d_of_slice + y * kMarchPitch + x;
  const Triple<float> k = {here.column + 1 < s.width ? d[1] - m.d : 0.0f,
                           here.row + 1 < s.height ? d[kMarchPitch] - m.d : 0.0f,
                           slice + 1 < s.depth ? pass.problem.depth_weight * (m.d_behind - m.d) : 0.0f};
  write_dual<true>(pass.next, pass.p.component, here.offset,
                   prox_dual<kIsotropic, true>(m.p, m.before, k, pass.momentum, step));
}

// All of one block. `memory` is its shared memory, kMarchFloats long.
template <bool kIsotropic, typename Block>
LC_INLINE void march_program(const MarchPass& pass, int64_t block_index, float* memory, Block& block) {
  const Problem& problem = pass.problem;
  const Shape& s = problem.shape;
  const MarchPlace place = march_place(pass.grid, s, block_index);
  const bool first = pass.spare != nullptr;
  const float weight = problem.weight_of(place.stack);
  if (!(weight > 0.0f)) return;  // the result sees to it
  if (!first && pass.idle[block_index] != 0.0f) return;
  const float step = problem.step_for(weight);
  float* const any_live = memory + 3 * kMarchSlice;
  auto d_of = [&](int64_t slice) { return memory + slice % 3 * kMarchSlice; };

  block.phase([&](int thread, MarchPixel& m) {
    m = MarchPixel{};
    const Pixel here = march_pixel(place, s, place.first_slice, thread % kColumnWidth, thread / kColumnWidth);
    if (place.first_slice > 0 && on_slice(here, s)) {
      m.p_behind.z = pass.p.z(in_front_of(here, s), s);
      m.before_behind.z = pass.before.z(in_front_of(here, s), s);
    }
    advance(pass, place, d_of(place.first_slice), place.first_slice, true, thread, weight, m);
    if (thread == 0) *any_live = 0.0f;
  });
  for (int64_t slice = place.first_slice; slice <= place.last_slice; ++slice)
    block.phase([&](int thread, MarchPixel& m) {
      if (slice > place.first_slice) march_dual<kIsotropic>(pass, place, d_of(slice - 1), slice - 1, thread, step, m);
      if (slice == place.last_slice) return;
      m.p = m.p_behind;
      m.before = m.before_behind;
      m.d = m.d_behind;
      if (slice + 1 < s.depth)
        advance(pass, place, d_of(slice + 1), slice + 1, slice + 1 < place.last_slice, thread, weight, m);
    });
  if (!first) return;
  block.phase([&](int, MarchPixel& m) {
    if (m.live) *any_live = 1.0f;  // whoever comes: all write the same
  });
  block.phase([&](int thread, MarchPixel&) {
    const bool idle = *any_live == 0.0f;
    if (thread == 0) pass.idle[block_index] = idle ? 1.0f : 0.0f;
    if (!idle) return;
    for (int64_t slice = place.first_slice; slice < place.last_slice; ++slice) {
      const Pixel here = march_pixel(place, s, slice, thread % kColumnWidth, thread / kColumnWidth);
      if (on_slice(here, s))
        write_dual<true>(pass.spare, pass.p.component, here.offset, Triple<float>{0.0f, 0.0f, 0.0f});
    }
  });
}

}  // namespace lesioncore
