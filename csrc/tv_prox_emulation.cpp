// The kernels of the CUDA tv_prox_ run on the host, thread after thread: what makes them testable without a GPU. The
// algorithm, its barriers and buffers are those of the headers that the CUDA library compiles; only the block is
// another one here. Threads take turns from barrier to barrier, in rising or falling order: a missing barrier shows as
// a difference between the two, and scratch and shared memory start as NaN, so that reading what nobody wrote shows too.
#include "tv_prox_emulation.h"

#include <limits>
#include <vector>

#include "tv_prox_schedule.h"

namespace lesioncore {
namespace {

template <typename State>
struct HostBlock {
  std::vector<State> states;
  bool falling;

  template <typename F>
  void phase(const F& f) {
    const int threads = static_cast<int>(states.size());
    for (int turn = 0; turn < threads; ++turn) {
      const int thread = falling ? threads - 1 - turn : turn;
      f(thread, states[static_cast<size_t>(thread)]);
    }
  }
};

std::vector<float> poisoned(int64_t size) {
  return std::vector<float>(static_cast<size_t>(size), std::numeric_limits<float>::quiet_NaN());
}

struct HostLauncher {
  Problem problem;
  bool isotropic, coupled, falling;
  float *dual, *out;
  std::vector<int> iterations;  // of each launch; 0: the result

  void tile(const TilePass& pass, int64_t blocks) {
    iterations.push_back(pass.iterations);
    for (int64_t b = 0; b < blocks; ++b) {
      HostBlock<Strip> block{std::vector<Strip>(static_cast<size_t>(pass.grid.threads())), falling};
      std::vector<float> memory = poisoned(pass.grid.shared_floats());
      if (isotropic)
        tile_program<true>(pass, falling ? blocks - 1 - b : b, memory.data(), block);
      else
        tile_program<false>(pass, falling ? blocks - 1 - b : b, memory.data(), block);
    }
  }

  void march(const MarchPass& pass, int64_t blocks) {
    iterations.push_back(1);
    for (int64_t b = 0; b < blocks; ++b) {
      HostBlock<MarchPixel> block{std::vector<MarchPixel>(kColumnThreads), falling};
      std::vector<float> memory = poisoned(kMarchFloats);
      if (isotropic)
        march_program<true>(pass, falling ? blocks - 1 - b : b, memory.data(), block);
      else
        march_program<false>(pass, falling ? blocks - 1 - b : b, memory.data(), block);
    }
  }

  void result(const DualField& field) {
    iterations.push_back(0);
    const Shape& s = problem.shape;
    for (int64_t offset = 0; offset < s.numel(); ++offset) {
      const int64_t plane = offset / s.slice();
      const Pixel p{offset, plane % s.depth, offset / s.width % s.height, offset % s.width};
      if (coupled)
        result_pixel<true>(problem, field, dual, out, p, plane / s.depth);
      else
        result_pixel<false>(problem, field, dual, out, p, plane / s.depth);
    }
  }
};

}  // namespace

std::vector<int> emulate_tv_prox(const EmulatedProx& call) {
  const bool coupled = call.depth_weight > 0.0 && call.depth > 1;
  const Problem problem{{call.stacks, call.depth, call.height, call.width},    call.v, call.mask, call.weight, 1,
                        coupled ? static_cast<float>(call.depth_weight) : 0.0f};
  HostLauncher launcher{problem, call.isotropic, coupled, call.falling, call.dual, call.out, {}};
  if (problem.shape.numel() == 0) return launcher.iterations;
  const ProxSchedule schedule(problem, coupled, call.iterations, call.processors);
  std::vector<float> scratch = poisoned(schedule.scratch_floats());
  schedule.run(call.dual, scratch.data(), launcher);
  return launcher.iterations;
}

}  // namespace lesioncore
