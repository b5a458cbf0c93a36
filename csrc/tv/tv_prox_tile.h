// Tile kernel of the CUDA tv_prox_, for uncoupled slices: each block computes several dual iterations of one tile of
// one slice in registers and shared memory (temporal blocking). Equations: tv_prox_cuda.cu; phases and barriers:
// tv_prox_problem.h.
//
// Tile: `width` x 8 `strips` pixels, of which the launch writes the inner ones. p'(i, j) depends on p within one pixel
// on each side, so after T iterations the T outer pixels on each side are wrong, except at the edges of the slice.
// Tiles therefore overlap by 2 T, and neighbours compute each other's outer pixels again. Along one axis:
//
//     edge of the slice
//     |<------------ tile 0 ------------->|
//     |                       |<------------ tile 1 ------------->|
//     |                       |<-T->|<-T->|
//     |     written by tile 0       |     written by tile 1    ...
//
// Thread map: thread = strip * width + column. It has 8 pixels below each other:
//
//                  column 0      1           width - 1
//                +----------+----------+---+-----------+
//     strip 0    | thread 0 | thread 1 |...| width - 1 |   8 rows of pixels, in the registers of the threads
//                +----------+----------+---+-----------+   <- p.y of the last row, in shared memory (last_y)
//     strip 1    |  width   | width + 1|...|           |
//                +----------+----------+---+-----------+
//
// Registers hold p, the previous p, v, and K^T p_before, which is the sum that the iteration before had as its K^T p
// and so has the same bits. Threads exchange D and p.x of each pixel and p.y of the last row of each strip through
// shared memory.
// Idle threads are those that have nothing in the mask at their pixels and the next ones, and whose p and previous p
// are zero: their values stay as they are, so warps of them take no time. A tile of idle threads returns at once in
// later launches, since its part of every buffer is zero.
// Bytes: per pixel of the tile and launch 21 read, per pixel of the slice 16 written, 8 in the last launch. 200 x 200
// by 3 launches of 3 x 3 tiles of 80 x 80, T = 10 (1.44 pixels of tiles per pixel): (1.44 * (13 + 21 + 21) + 40 +
// result 25) / 30 = 4.8 bytes per pixel and iteration; one launch per iteration moved 29. Whole slices up to 80 x 80:
// one launch.
#pragma once

#include "tv/tv_prox_problem.h"

#if defined(__CUDA_ARCH__)  // arrays in registers cannot be indexed by a variable, so loops over them are unrolled
#define LC_UNROLL _Pragma("unroll")
#else
#define LC_UNROLL
#endif

namespace lesioncore {

constexpr int kStripRows = 8;
constexpr int kMaxTileThreads = 800;  // 80 registers each
constexpr int kMaxTileIterations = 30;

// Tiles of one slice; tile (i, j) starts at i, j times the stride of its axis.
struct TileGrid {
  int width, strips;        // of a tile
  int64_t across, down;     // number of tiles
  int halo;                 // T: pixels on each side that neighbouring tiles compute, too
  int iterations_per_pass;  // = halo

  LC_INLINE int height() const { return strips * kStripRows; }
  LC_INLINE int threads() const { return width * strips; }
  // The arrays of TileShared.
  LC_INLINE int64_t shared_floats() const { return 2 * int64_t{width} * height() + int64_t{width} * strips + 1; }
};

struct TilePass {
  Problem problem;
  TileGrid grid;
  DualField p, before;  // nothing precedes the first pass: it has p as both, and momentum 0
  float* next;          // [2, N, D, H, W]
  float* next_before;   // [2, N, D, H, W], null in the last pass
  float* idle;          // [tiles of all slices]: 1 if the tile is idle. The first pass writes it.
  float* spare;         // [2, N, D, H, W]: in the first pass, what the pass after the next reads as `before`; else null
  int iterations;
  float momentum[kMaxTileIterations];
};

// The pixels of one thread, which it keeps in registers.
struct Strip {
  int first;       // offset of the first pixel in the tile
  unsigned flags;  // as below
  Triple<float> p[kStripRows], before[kStripRows];
  float v[kStripRows], adjoint_before[kStripRows];

  // Bit r says that pixel r is in the mask, bit 8 + r that it has a pixel below. The next bits say that the pixels have
  // neighbours to the right, to the left, that the first has one above (all within the tile), and that the thread is
  // not idle.
  static constexpr unsigned kRight = 1u << 16, kLeft = 1u << 17, kAbove = 1u << 18, kBusy = 1u << 19;
  LC_INLINE bool inside(int r) const { return (flags >> r & 1u) != 0; }
  LC_INLINE bool lower(int r) const { return (flags >> (8 + r) & 1u) != 0; }
  LC_INLINE bool has(unsigned bit) const { return (flags & bit) != 0; }
};
static_assert(kStripRows == 8, "the flags hold eight pixels");

struct TilePlace {
  int64_t slice, row, column;                              // of the tile's first pixel
  int64_t first_row, last_row, first_column, last_column;  // what it writes, last excluded
};

static LC_INLINE TilePlace tile_place(const TileGrid& g, const Shape& s, int64_t block) {
  const int64_t i = block % g.across, j = block / g.across % g.down;
  TilePlace place{block / (g.across * g.down), j * (g.height() - 2 * g.halo), i * (g.width - 2 * g.halo), 0, 0, 0, 0};
  place.first_row = j > 0 ? place.row + g.halo : 0;
  place.last_row = j + 1 < g.down ? place.row + g.height() - g.halo : s.height;
  place.first_column = i > 0 ? place.column + g.halo : 0;
  place.last_column = i + 1 < g.across ? place.column + g.width - g.halo : s.width;
  return place;
}

struct TileShared {
  float* d;         // [height, width of the tile]: D
  float* x;         // [height, width of the tile]: p.x
  float* last_y;    // [strips, width]: p.y of the last row of each strip
  float* any_busy;  // [1]: 1 if some thread is not idle
};

static LC_INLINE TileShared tile_shared(const TileGrid& g, float* memory) {
  const int64_t pixels = int64_t{g.width} * g.height();
  return {memory, memory + pixels, memory + 2 * pixels, memory + 2 * pixels + int64_t{g.width} * g.strips};
}

static LC_INLINE void load_strip(const TilePass& pass, const TilePlace& place, const TileShared& shared, int thread,
                                 Strip& s) {
  const Shape& shape = pass.problem.shape;
  const int width = pass.grid.width, own_column = thread % width, own_row = thread / width * kStripRows;
  const int64_t column = place.column + own_column, row = place.row + own_row;
  const bool right = column + 1 < shape.width;
  const bool look_right = right && own_column + 1 < width;
  // How many rows of the slice, and of the tile, there are from the strip's first on; 0 beyond the slice's last column.
  const int rows = column < shape.width ? static_cast<int>(shape.height - row < 255 ? shape.height - row : 255) : 0;
  const int rows_of_tile = rows < pass.grid.height() - own_row ? rows : pass.grid.height() - own_row;
  const Pixel start{(place.slice * shape.height + row) * shape.width + column, 0, row, column};
  const int64_t component = pass.p.component;
  const float *p = pass.p.data + start.offset, *before = pass.before.data + start.offset;
  const float* v = pass.problem.v + start.offset;
  const bool* mask = pass.problem.mask + start.offset;

  float before_above = rows > 0 && row > 0 ? pass.before.y(above(start, shape), shape) : 0.0f;
  s.first = own_row * width + own_column;
  bool busy = false;
  unsigned inside = 0, lower = 0;
  LC_UNROLL
  for (int r = 0; r < kStripRows; ++r) {
    s.p[r] = s.before[r] = {0.0f, 0.0f, 0.0f};
    s.v[r] = s.adjoint_before[r] = 0.0f;
    if (r < rows) {
      const bool not_last = r + 1 < rows;
      if (right) s.p[r].x = p[0], s.before[r].x = before[0];
      if (not_last) s.p[r].y = p[component], s.before[r].y = before[component];
      const float before_left = column > 0 ? before[-1] : 0.0f;
      s.adjoint_before[r] = adjoint<false>(Triple<float>{before_left, before_above, 0.0f}, s.before[r], 0.0f);
      before_above = s.before[r].y;
      s.v[r] = v[0];
      inside |= static_cast<unsigned>(mask[0]) << r;
      lower |= static_cast<unsigned>(r + 1 < rows_of_tile) << r;
      busy |= (look_right && mask[1]) || any_nonzero(s.p[r]) || any_nonzero(s.before[r]);
      p += shape.width;
      before += shape.width;
      v += shape.width;
      mask += shape.width;
    }
    shared.d[s.first + r * width] = 0.0f;  // idle threads never change it, as they have nothing in the mask
    shared.x[s.first + r * width] = s.p[r].x;
  }
  // K D may differ from zero where D does here, to the right or below, so these pixels of the mask count.
  busy |= inside != 0 || (kStripRows < rows_of_tile && mask[0]);
  s.flags = inside | lower << 8 | (look_right ? Strip::kRight : 0u) | (own_column > 0 ? Strip::kLeft : 0u) |
            (own_row > 0 ? Strip::kAbove : 0u) | (busy ? Strip::kBusy : 0u);
  shared.last_y[thread] = s.p[kStripRows - 1].y;
  if (thread == 0) *shared.any_busy = 0.0f;
}

// Computes D at the strip's pixels.
static LC_INLINE void primal_strip(int width, const TileShared& shared, int thread, float weight, float momentum,
                                   Strip& s) {
  if (!s.has(Strip::kBusy)) return;
  float above = s.has(Strip::kAbove) ? shared.last_y[thread - width] : 0.0f;
  LC_UNROLL
  for (int r = 0; r < kStripRows; ++r) {
    const int here = s.first + r * width;
    // The value is loaded in any case and chosen afterwards, because ptxas 13.0 for sm_90 compiles
    // `kLeft ? shared.x[here - 1] : 0` to code that takes 0 for some pixels after one outside the mask (seen on an
    // H200; not with -Xptxas -O0).
    const float left_or_own = shared.x[here - (s.has(Strip::kLeft) ? 1 : 0)];
    const float left = s.has(Strip::kLeft) ? left_or_own : 0.0f;
    const float a = adjoint<false>(Triple<float>{left, above, 0.0f}, s.p[r], 0.0f);
    shared.d[here] = prox_primal(s.v[r], a, s.adjoint_before[r], s.inside(r), weight, momentum);
    s.adjoint_before[r] = a;
    above = s.p[r].y;
  }
}

// Computes the next p at the strip's pixels.
template <bool kIsotropic>
static LC_INLINE void dual_strip(int width, const TileShared& shared, int thread, float momentum, float step,
                                 Strip& s) {
  if (!s.has(Strip::kBusy)) return;
  float d = shared.d[s.first];
  LC_UNROLL
  for (int r = 0; r < kStripRows; ++r) {
    const int here = s.first + r * width;
    const float below = s.lower(r) ? shared.d[here + width] : d;
    const Triple<float> k = {s.has(Strip::kRight) ? shared.d[here + 1] - d : 0.0f, s.lower(r) ? below - d : 0.0f, 0.0f};
    const Triple<float> next = prox_dual<kIsotropic, false>(s.p[r], s.before[r], k, momentum, step);
    s.before[r] = s.p[r];
    s.p[r] = next;
    shared.x[here] = next.x;
    d = below;
  }
  shared.last_y[thread] = s.p[kStripRows - 1].y;
}

// Calls f(offset in the volume, r) for the pixels of the thread's strip that this tile writes.
template <typename F>
static LC_INLINE void for_written(const TilePass& pass, const TilePlace& place, int thread, const F& f) {
  const Shape& shape = pass.problem.shape;
  const int64_t column = place.column + thread % pass.grid.width;
  const int64_t row = place.row + thread / pass.grid.width * kStripRows;
  if (column < place.first_column || column >= place.last_column) return;
  const int first = static_cast<int>(place.first_row - row < 255 ? place.first_row - row : 255);
  const int last = static_cast<int>(place.last_row - row < 255 ? place.last_row - row : 255);
  int64_t offset = (place.slice * shape.height + row) * shape.width + column;
  LC_UNROLL
  for (int r = 0; r < kStripRows; ++r, offset += shape.width)
    if (r >= first && r < last) f(offset, r);
}

// The program of one block.
template <bool kIsotropic, typename Block>
LC_INLINE void tile_program(const TilePass& pass, int64_t block_index,
                            float* memory,  // [grid.shared_floats()], shared
                            Block& block) {
  const Problem& problem = pass.problem;
  const Shape& shape = problem.shape;
  const TileGrid& grid = pass.grid;
  const TilePlace place = tile_place(grid, shape, block_index);
  const bool first = pass.spare != nullptr;
  const float weight = problem.weight_of(place.slice / shape.depth);
  if (!(weight > 0.0f)) return;  // result_pixel does not read the field then
  if (!first && pass.idle[block_index] != 0.0f) return;
  const float step = problem.step_for(weight);
  const TileShared shared = tile_shared(grid, memory);

  block.phase([&](int thread, Strip& s) { load_strip(pass, place, shared, thread, s); });
  if (first) {
    block.phase([&](int, Strip& s) {
      if (s.has(Strip::kBusy)) *shared.any_busy = 1.0f;  // benign race: every thread stores 1
    });
    block.phase([&](int thread, Strip&) {
      const bool idle = *shared.any_busy == 0.0f;
      if (thread == 0) pass.idle[block_index] = idle ? 1.0f : 0.0f;
      if (idle)
        for_written(pass, place, thread, [&](int64_t offset, int) {
          write_dual<false>(pass.spare, pass.p.component, offset, Triple<float>{0.0f, 0.0f, 0.0f});
        });
    });
  }
  for (int k = 0; k < pass.iterations; ++k) {
    const float momentum = pass.momentum[k];
    block.phase([&](int thread, Strip& s) { primal_strip(grid.width, shared, thread, weight, momentum, s); });
    block.phase([&](int thread, Strip& s) { dual_strip<kIsotropic>(grid.width, shared, thread, momentum, step, s); });
  }
  block.phase([&](int thread, Strip& s) {
    for_written(pass, place, thread, [&](int64_t offset, int r) {
      write_dual<false>(pass.next, pass.p.component, offset, s.p[r]);
      if (pass.next_before != nullptr) write_dual<false>(pass.next_before, pass.p.component, offset, s.before[r]);
    });
  });
}

}  // namespace lesioncore
