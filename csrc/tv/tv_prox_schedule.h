// Schedule of a call of the CUDA tv_prox_: its launches, their geometry, and the buffers that they read and write.
//
// A launcher has the functions tile(pass, blocks), march(pass, blocks) and result(field). The momentum is a sequence
// that the host knows, and no launch depends on values on the device, so a captured graph replays exactly.
#pragma once

#include <algorithm>

#include "tv/tv_prox_march.h"
#include "tv/tv_prox_tile.h"

namespace lesioncore {

// ---- Geometry ------------------------------------------------------------------------------------------------------

inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// How many tiles of `tile` pixels that share 2 halo pixels cover `size`; 0 if they cannot.
inline int64_t tiles_along(int64_t size, int64_t tile, int64_t halo) {
  if (tile >= size) return 1;
  return tile > 2 * halo ? ceil_div(size - 2 * halo, tile - 2 * halo) : 0;
}

// Estimate of the cycles that a multiprocessor takes: 45 instructions per pixel and iteration on four schedulers of 32
// lanes, but at least 500 cycles for two barriers; 37 bytes per pixel in and out; a launch.
inline double tile_cost(const TileGrid& g, int64_t slices, int64_t passes, int processors) {
  const double pixels = static_cast<double>(g.width) * g.height();
  const double block = g.iterations_per_pass * std::max(0.35 * pixels, 500.0) + 2.5 * pixels + 2000.0;
  return static_cast<double>(passes) *
         (static_cast<double>(ceil_div(slices * g.across * g.down, processors)) * block + 5000.0);
}

// The tiles of lowest estimated cost for slices of this size.
inline TileGrid plan_tiles(const Shape& s, int64_t iterations, int processors) {
  TileGrid best{};
  double best_cost = 0.0;
  const int64_t slices = s.stacks * s.depth;
  for (int64_t passes = ceil_div(iterations, kMaxTileIterations); passes <= iterations; ++passes) {
    const int64_t halo = ceil_div(iterations, passes);
    if (halo == ceil_div(iterations, passes + 1) && halo > 1) continue;  // the next `passes` gives the same tiles
    for (int64_t widest = 16; widest <= 144; widest += 16) {
      const int64_t across = tiles_along(s.width, widest, halo);
      if (across == 0) continue;
      // As narrow as this number of tiles allows, rounded up to whole sectors of memory.
      const int64_t width = std::min(widest, ceil_div(ceil_div(s.width + 2 * halo * (across - 1), across), 4) * 4);
      for (int64_t strips = 1; strips * width <= kMaxTileThreads; ++strips) {
        const int64_t down = tiles_along(s.height, strips * kStripRows, halo);
        if (down == 0) continue;
        const TileGrid grid{static_cast<int>(width), static_cast<int>(strips), across, down,
                            static_cast<int>(halo),  static_cast<int>(halo)};
        const double cost = tile_cost(grid, slices, ceil_div(iterations, halo), processors);
        if (best_cost == 0.0 || cost < best_cost) {
          best = grid;
          best_cost = cost;
        }
        if (down == 1) break;
      }
    }
    if (halo == 1) break;
  }
  return best;
}

// The longest chunks of slices that still give each multiprocessor 8 blocks: long ones read less, short ones keep more
// multiprocessors busy.
inline MarchGrid plan_march(const Shape& s, int processors) {
  MarchGrid grid{ceil_div(s.width, kColumnWidth), ceil_div(s.height, kColumnHeight), 0, 0};
  for (grid.planes = 32; grid.planes >= 4; grid.planes /= 2) {
    grid.chunks = ceil_div(s.depth, grid.planes);
    if (s.stacks * grid.chunks * grid.across * grid.down >= 8 * processors || grid.planes == 4) break;
  }
  return grid;
}

// ---- Launches ------------------------------------------------------------------------------------------------------

class ProxSchedule {
 public:
  ProxSchedule(const Problem& problem, bool coupled, int64_t iterations, int processors)
      : problem_(problem), coupled_(coupled), iterations_(iterations) {
    if (coupled)
      march_ = plan_march(problem.shape, processors);
    else if (iterations > 0)
      tiles_ = plan_tiles(problem.shape, iterations, processors);
  }

  // In 3-D `dual` and two buffers rotate; in 2-D two pairs (p, previous p) take turns, of which `dual` is one field.
  int64_t scratch_floats() const {
    if (iterations_ == 0) return 0;
    return fields() * field_size() + blocks();
  }

  template <typename Launcher>
  void run(float* dual,     // [C, N, D, H, W]
           float* scratch,  // [scratch_floats()]
           Launcher& launch) const {
    const float* last = dual;
    if (iterations_ > 0) last = coupled_ ? march(dual, scratch, launch) : tiles(dual, scratch, launch);
    launch.result(DualField{last, problem_.shape.numel()});
  }

 private:
  int64_t fields() const { return coupled_ ? 2 : 3; }
  int64_t field_size() const { return problem_.shape.numel() * (coupled_ ? 3 : 2); }
  int64_t blocks() const {
    const Shape& s = problem_.shape;
    return coupled_ ? s.stacks * march_.chunks * march_.across * march_.down
                    : s.stacks * s.depth * tiles_.across * tiles_.down;
  }

  template <typename Launcher>
  const float* march(float* dual, float* scratch, Launcher& launch) const {
    float* const buffers[3] = {dual, scratch, scratch + field_size()};
    const int64_t component = problem_.shape.numel();
    double t = 1.0, momentum = 0.0;
    for (int64_t k = 0; k < iterations_; ++k) {
      launch.march(
          MarchPass{problem_, march_, DualField{buffers[k % 3], component},
                    DualField{buffers[k == 0 ? 0 : (k - 1) % 3], component}, buffers[(k + 1) % 3],
                    scratch + fields() * field_size(), k == 0 ? buffers[2] : nullptr, static_cast<float>(momentum)},
          blocks());
      momentum = next_momentum(t);
    }
    return buffers[iterations_ % 3];
  }

  template <typename Launcher>
  const float* tiles(float* dual, float* scratch, Launcher& launch) const {
    float* const p[2] = {dual, scratch};
    float* const before[2] = {scratch + field_size(), scratch + 2 * field_size()};
    const int64_t component = problem_.shape.numel();
    double t = 1.0, momentum = 0.0;
    int now = 0;
    for (int64_t done = 0; done < iterations_; now = 1 - now) {
      const int64_t count = std::min<int64_t>(tiles_.iterations_per_pass, iterations_ - done);
      const bool first = done == 0, last = done + count == iterations_;
      TilePass pass{problem_,
                    tiles_,
                    DualField{p[now], component},
                    DualField{first ? p[0] : before[now], component},
                    p[1 - now],
                    last ? nullptr : before[1 - now],
                    scratch + fields() * field_size(),
                    first ? before[0] : nullptr,
                    static_cast<int>(count),
                    {}};
      for (int64_t k = 0; k < count; ++k) {
        pass.momentum[k] = static_cast<float>(momentum);
        momentum = next_momentum(t);
      }
      launch.tile(pass, blocks());
      done += count;
    }
    return p[now];
  }

  Problem problem_;
  bool coupled_;
  int64_t iterations_;
  TileGrid tiles_{};
  MarchGrid march_{};
};

}  // namespace lesioncore
