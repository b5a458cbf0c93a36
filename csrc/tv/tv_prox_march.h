// March kernel of the CUDA tv_prox_, for coupled slices: one dual iteration per launch, in which a block passes a
// column of 64 x 8 pixels through `planes` slices. Equations: tv_prox_cuda.cu; phases and barriers: tv_prox_problem.h.
//
// Thread map: thread = 64 y + x has one pixel per slice. The first 72 threads also compute D beyond the column, to the
// right and below, which the differences there need:
//
//           x = 0                    63   64
//     y = 0 +--------------------------+-----+
//           |                          | 64  |
//           |      thread 64 y + x     | ... |  threads 64 to 71
//         7 |                          | 71  |
//           +--------------------------+-----+
//         8 |  0  1  2  ...        63  |  threads 0 to 63
//           +--------------------------+
//
// p' in a slice needs D there and in the slice behind. In phase k a thread writes p' of slice k - 1 and then computes D
// of slice k + 1. It keeps p, the previous p, and D of its pixel in registers from one slice to the next, and reads D
// of its neighbours in shared memory, which has room for three slices:
//
//        slice k - 1             slice k                 slice k + 1
//     +------------------+    +------------------+    +------------------+
//     | D is read,       |    | D was computed   |    | D is computed    |
//     | p' is written    |    | in phase k - 1   |    |                  |
//     +------------------+    +------------------+    +------------------+
//
// No slice that is written is read in the same phase, so one barrier per slice is enough.
// Idle blocks are those with nothing in the mask in the block and next to it, and with a p of zero: their values stay
// as they are. The first launch finds them and clears their part of all three buffers, and later launches return at
// once. A brain fills a third of its box.
// Bytes per pixel of the other blocks and iteration: 29 read (p, previous p, v, mask), 12 written: 41; and of the 29,
// 1 / planes again for D behind the block's last slice. What neighbouring columns read twice comes from L2.
//
// Why one iteration: in 3-D the halo costs what blocking in time saves. A tile that holds T iterations keeps 9 values
// per pixel and iteration while it marches (p, previous p, D, K^T p, v), so that registers and shared memory of an SM
// hold about 6000 pixels * T of them. T = 2: 60 x 28 of 64 x 32, (29 * 1.22 + 24) / 2 = 30 bytes and 1.22 times the
// work; T = 3: 42 x 26 of 48 x 32, 22 bytes and 1.4 times; T = 4: 24 x 24 of 32 x 32, 19 bytes and 1.8 times, with 2 T
// barriers per slice at 16 warps per SM; and such tiles are too large to pass over the background (one in two is idle
// where two in three of these columns are), too few for volumes of a million pixels, which lie in an H100's L2 anyhow.
// Cubes that do not march (20^3 for 16^3 at T = 2) move 40.
#pragma once

#include "tv/tv_prox_problem.h"

namespace lesioncore {

constexpr int kColumnWidth = 64;
constexpr int kColumnHeight = 8;
constexpr int kColumnThreads = kColumnWidth * kColumnHeight;
constexpr int kHaloThreads = kColumnWidth + kColumnHeight;
constexpr int kMarchPitch = kColumnWidth + 1;
constexpr int kMarchSlice = kMarchPitch * (kColumnHeight + 1);
constexpr int kMarchFloats = 3 * kMarchSlice + 1;  // D [3, kColumnHeight + 1, kMarchPitch]; whether any thread is live

struct MarchGrid {
  int64_t across, down, chunks;  // blocks per stack
  int64_t planes;                // slices of a chunk
};

struct MarchPass {
  Problem problem;
  MarchGrid grid;
  DualField p, before;  // nothing precedes the first iteration: it has p as both, and momentum 0
  float* next;          // [3, N, D, H, W]
  float* idle;          // [blocks]: 1 if the block is idle. The first iteration writes it.
  float* spare;         // [3, N, D, H, W]: in the first iteration, the third buffer; else null
  float momentum;
};

// The registers of one thread: its pixel in this slice, and in the slice behind.
struct MarchPixel {
  // Offset of the pixel behind in the volume, which has fewer than 2^31 pixels: 64-bit addresses would cost more than
  // all the rest.
  int behind;
  unsigned flags;  // whether the pixel and its neighbours in the slice exist, and whether D or p was nonzero anywhere
  Triple<float> p, before, p_behind, before_behind;
  float d, d_behind;

  static constexpr unsigned kExists = 1, kRight = 2, kLower = 4, kLeft = 8, kAbove = 16, kLive = 32;
  LC_INLINE bool has(unsigned flag) const { return (flags & flag) != 0; }
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

// Returns (K^T f) at the pixel behind. `own` comes in as f at the pixel of this slice, in front of it, and becomes f at
// the pixel behind.
static LC_INLINE float advance_field(const DualField& field, int width, const MarchPixel& m, bool not_last,
                                     float depth_weight, Triple<float>& own) {
  const float *x = field.data, *y = x + field.component, *z = y + field.component;
  const Triple<float> around = {m.has(m.kLeft) ? x[m.behind - 1] : 0.0f, m.has(m.kAbove) ? y[m.behind - width] : 0.0f,
                                own.z};
  own = {m.has(m.kRight) ? x[m.behind] : 0.0f, m.has(m.kLower) ? y[m.behind] : 0.0f, not_last ? z[m.behind] : 0.0f};
  return adjoint<true>(around, own, depth_weight);
}

// Computes D of the slice behind, `slice`.
static LC_INLINE void advance(const MarchPass& pass, const MarchPlace& place,
                              float* d_of_slice,  // [kColumnHeight + 1, kMarchPitch], shared
                              int64_t slice, bool not_last, bool with_halo, int thread, float weight, MarchPixel& m) {
  const Problem& problem = pass.problem;
  const Shape& s = problem.shape;
  if (m.has(m.kExists)) {
    const bool inside = problem.mask[m.behind];
    const float v = problem.v[m.behind];
    const int width = static_cast<int>(s.width);
    const float a = advance_field(pass.p, width, m, not_last, problem.depth_weight, m.p_behind);
    const float b = advance_field(pass.before, width, m, not_last, problem.depth_weight, m.before_behind);
    m.d_behind = prox_primal(v, a, b, inside, weight, pass.momentum);
    if (inside || any_nonzero(m.p_behind)) m.flags |= m.kLive;
    d_of_slice[thread / kColumnWidth * kMarchPitch + thread % kColumnWidth] = m.d_behind;
  }
  if (!with_halo || thread >= kHaloThreads) return;
  const int x = thread < kColumnWidth ? thread : kColumnWidth;
  const int y = thread < kColumnWidth ? kColumnHeight : thread - kColumnWidth;
  const Pixel next = march_pixel(place, s, slice, x, y);
  if (!on_slice(next, s)) return;
  float d = 0.0f;
  if (problem.mask[next.offset]) {  // else v and p need not be read
    d = prox_primal(problem.v[next.offset], pass.p.adjoint_at<true>(next, s, problem.depth_weight),
                    pass.before.adjoint_at<true>(next, s, problem.depth_weight), true, weight, pass.momentum);
    m.flags |= m.kLive;
  }
  d_of_slice[y * kMarchPitch + x] = d;
}

// Computes the next p at the pixel of this slice, whose offset is `here`.
template <bool kIsotropic>
static LC_INLINE void march_dual(const MarchPass& pass,
                                 const float* d_of_slice,  // [kColumnHeight + 1, kMarchPitch], shared
                                 int here, bool has_behind, int thread, float step, const MarchPixel& m) {
  if (!m.has(m.kExists)) return;
  const float* d = d_of_slice + thread / kColumnWidth * kMarchPitch + thread % kColumnWidth;
  const Triple<float> k = {m.has(m.kRight) ? d[1] - m.d : 0.0f, m.has(m.kLower) ? d[kMarchPitch] - m.d : 0.0f,
                           has_behind ? pass.problem.depth_weight * (m.d_behind - m.d) : 0.0f};
  write_dual<true>(pass.next, pass.p.component, here,
                   prox_dual<kIsotropic, true>(m.p, m.before, k, pass.momentum, step));
}

// The program of one block.
template <bool kIsotropic, typename Block>
LC_INLINE void march_program(const MarchPass& pass, int64_t block_index,
                             float* memory,  // [kMarchFloats], shared
                             Block& block) {
  const Problem& problem = pass.problem;
  const Shape& s = problem.shape;
  const MarchPlace place = march_place(pass.grid, s, block_index);
  const bool first = pass.spare != nullptr;
  const float weight = problem.weight_of(place.stack);
  if (!(weight > 0.0f)) return;  // result_pixel does not read the field then
  if (!first && pass.idle[block_index] != 0.0f) return;
  const float step = problem.step_for(weight);
  float* const any_live = memory + 3 * kMarchSlice;
  // Slices are counted from the block's first on, and slice k uses part k % 3 of the shared memory.
  const int slices = static_cast<int>(place.last_slice - place.first_slice);
  const int64_t to_the_end = s.depth - place.first_slice;
  const int left = static_cast<int>(to_the_end < (1 << 30) ? to_the_end : 1 << 30);  // of the stack's slices
  const int slice_size = static_cast<int>(s.slice());
  auto d_of = [&](int k) { return memory + k % 3 * kMarchSlice; };

  block.phase([&](int thread, MarchPixel& m) {
    const Pixel at = march_pixel(place, s, place.first_slice, thread % kColumnWidth, thread / kColumnWidth);
    const bool exists = on_slice(at, s);
    m = MarchPixel{};
    m.behind = static_cast<int>(at.offset);
    m.flags = (exists ? m.kExists : 0u) | (at.column + 1 < s.width ? m.kRight : 0u) |
              (at.row + 1 < s.height ? m.kLower : 0u) | (at.column > 0 ? m.kLeft : 0u) | (at.row > 0 ? m.kAbove : 0u);
    if (place.first_slice > 0 && exists) {
      m.p_behind.z = pass.p.z(in_front_of(at, s), s);
      m.before_behind.z = pass.before.z(in_front_of(at, s), s);
    }
    advance(pass, place, d_of(0), place.first_slice, left > 1, true, thread, weight, m);
    if (thread == 0) *any_live = 0.0f;
  });
  for (int k = 0; k <= slices; ++k)  // p' in slice k - 1, D in slice k + 1
    block.phase([&](int thread, MarchPixel& m) {
      if (k > 0) march_dual<kIsotropic>(pass, d_of(k - 1), m.behind - slice_size, k < left, thread, step, m);
      if (k == slices) return;
      m.p = m.p_behind;
      m.before = m.before_behind;
      m.d = m.d_behind;
      m.behind += slice_size;
      if (k + 1 < left)
        advance(pass, place, d_of(k + 1), place.first_slice + k + 1, k + 2 < left, k + 1 < slices, thread, weight, m);
    });
  if (!first) return;
  block.phase([&](int, MarchPixel& m) {
    if (m.has(m.kLive)) *any_live = 1.0f;  // benign race: every thread stores 1
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
