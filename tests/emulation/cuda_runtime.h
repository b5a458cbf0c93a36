// Stands in for CUDA's header of that name where a plain C++ compiler compiles the kernels: they run on the host, block
// after block, for tests on machines without a GPU.
//
// Each thread of a block is a fiber with a stack of its own. It runs until it waits, at a barrier or for its warp, and
// then the next one runs; who starts, and whether threads follow in rising or falling order, changes from turn to turn,
// so that a missing barrier shows as a wrong result. A result that does not depend on it is what the kernel computes.
// Dynamic shared memory and scratch start as NaN. What this does not know: alignment, banks, time, and what ptxas makes of it all.
#pragma once

#include <setjmp.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

// The operators are those of another library, on the CPU.
#undef STABLE_TORCH_LIBRARY
#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY(ns, m) _STABLE_TORCH_LIBRARY_FRAGMENT(lesioncore_emulated, m, C10_UID)
#define STABLE_TORCH_LIBRARY_IMPL(ns, k, m) _STABLE_TORCH_LIBRARY_IMPL(lesioncore_emulated, CPU, m, C10_UID)

// There is no device to choose.
namespace torch::stable::accelerator {
struct HostGuard {
  explicit HostGuard(int32_t) {}
};
}  // namespace torch::stable::accelerator
#define DeviceGuard HostGuard

// Memory for results starts as NaN.
namespace torch::stable {
inline Tensor poisoned_new_empty(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes,
                                 std::optional<torch::headeronly::ScalarType> type = std::nullopt) {
  const Tensor found = new_empty(like, sizes, type);
  std::memset(found.mutable_data_ptr(), 0xff, static_cast<size_t>(found.numel()) * found.element_size());
  return found;
}
}  // namespace torch::stable
#define new_empty poisoned_new_empty

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static  // of a block; there is one at a time
#define __grid_constant__
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
struct uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}
using std::max;
using std::min;

template <typename To, typename From>
To bits_of(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  return bits_of<float>(bits);
}
inline unsigned __float_as_uint(float value) {
  return bits_of<unsigned>(value);
}

// Of the thread that runs.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace emulation {

// What the device pretends to have, and how many kernels it has run.
inline int processors = 132, launches = 0;

constexpr int kLanes = 32;
constexpr size_t kStack = 64 * 1024;

// Where a number of threads wait for each other; those that have ended are not waited for.
struct Barrier {
  int members = 0, arrived = 0;
  int64_t passed = 0;

  void leave() {
    --members;
    open();
  }
  void open() {
    if (members == 0 || arrived < members) return;
    arrived = 0;
    ++passed;
  }
};

struct Warp : Barrier {
  unsigned words[kLanes][6];  // what its lanes show each other
};

class Block {
 public:
  Block(dim3 size, size_t shared, std::function<void()> kernel)
      : kernel_(std::move(kernel)),
        fibers_(size.x * size.y * size.z),
        warps_((fibers_.size() + kLanes - 1) / kLanes),
        shared_(shared / sizeof(Unit) + 1) {
    for (size_t i = 0; i < fibers_.size(); ++i) {
      const auto thread = static_cast<unsigned>(i);
      fibers_[i].index = {thread % size.x, thread / size.x % size.y, thread / (size.x * size.y)};
    }
    while (stacks().size() < fibers_.size()) stacks().push_back(std::make_unique<char[]>(kStack));
  }

  void run() {
    std::memset(shared_.data(), 0xff, shared_.size() * sizeof(Unit));
    const int count = static_cast<int>(fibers_.size());
    everyone_ = {count, 0, 0};
    for (Warp& warp : warps_) static_cast<Barrier&>(warp) = {};
    for (int i = 0; i < count; ++i) ++warps_[i / kLanes].members, fibers_[i].state = State::kNew;
    while (everyone_.members > 0) {
      turn_ = turn_ * 1664525u + 1013904223u;  // a linear congruential generator's next number
      const int first = static_cast<int>((turn_ >> 8) % fibers_.size()), step = turn_ >> 31 ? 1 : count - 1;
      bool moved = false;
      for (int i = 0, at = first; i < count; ++i, at = (at + step) % count) moved = resume(at) || moved;
      if (!moved) throw std::runtime_error("emulation: all threads of a block wait for threads that never come");
    }
  }

  int lane() const { return now_ % kLanes; }
  Warp& warp() { return warps_[now_ / kLanes]; }
  Barrier& everyone() { return everyone_; }
  void* shared() { return shared_.data(); }

  void wait(Barrier& barrier) {
    Fiber& me = fibers_[now_];
    me.waits_for = &barrier, me.until = barrier.passed + 1;
    ++barrier.arrived;
    barrier.open();
    if (barrier.passed < me.until && _setjmp(me.at) == 0) _longjmp(scheduler_, 1);
  }

  static Block*& current() {
    static Block* block = nullptr;
    return block;
  }

 private:
  enum class State { kNew, kStarted, kEnded };
  struct Unit {
    alignas(16) unsigned char bytes[16];
  };
  struct Fiber {
    uint3 index;
    State state;
    jmp_buf at;
    const Barrier* waits_for;
    int64_t until;
  };

  // Of the threads; kept from launch to launch.
  static std::vector<std::unique_ptr<char[]>>& stacks() {
    static std::vector<std::unique_ptr<char[]>> all;
    return all;
  }

  // Lets a thread run until it waits or ends; false if there is nothing that it could do.
  bool resume(int thread) {
    Fiber& fiber = fibers_[thread];
    if (fiber.state == State::kEnded) return false;
    if (fiber.state == State::kStarted && fiber.waits_for->passed < fiber.until) return false;
    now_ = thread, threadIdx = fiber.index;
    if (_setjmp(scheduler_) != 0) return true;
    if (fiber.state == State::kStarted) _longjmp(fiber.at, 1);
    fiber.state = State::kStarted;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks()[thread].get(), context.uc_stack.ss_size = kStack;
    makecontext(&context, enter, 0);
    setcontext(&context);
    return true;  // never: the thread comes back by a jump
  }

  static void enter() {
    Block& block = *current();
    block.kernel_();
    block.fibers_[block.now_].state = State::kEnded;
    block.warp().leave();
    block.everyone_.leave();
    _longjmp(block.scheduler_, 1);
  }

  std::function<void()> kernel_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::vector<Unit> shared_;
  Barrier everyone_;
  jmp_buf scheduler_;
  int now_ = 0;
  unsigned turn_ = 1;
};

inline Block& block() {
  return *Block::current();
}

inline void synchronise_block() {
  block().wait(block().everyone());
}

// Each lane shows its warp some words; returns those of all.
template <size_t kCount>
const unsigned (&shown(const unsigned (&words)[kCount])) [kLanes][6] {
  Warp& warp = block().warp();
  std::copy(words, words + kCount, warp.words[block().lane()]);
  block().wait(warp);
  return warp.words;
}

template <typename T>
T from_lane(T value, int lane) {
  Warp& warp = block().warp();
  const unsigned found = shown({bits_of<unsigned>(value)})[lane][0];
  block().wait(warp);  // before the next words are shown
  return bits_of<T>(found);
}

// Rounded to ten bits, ties away from zero.
inline float to_tf32(float x) {
  return bits_of<float>((bits_of<unsigned>(x) + 0x1000u) & ~0x1fffu);
}

// mma.sync.m16n8k8 for TF32: c += a b, as the PTX manual has its fragments. Lane l holds a at rows l / 4 and l / 4 + 8,
// columns l % 4 and l % 4 + 4; b at rows l % 4 and l % 4 + 4, column l / 4; c at rows l / 4 and l / 4 + 8, columns
// 2 (l % 4) and the next.
inline void multiply_add(float (&c)[4], const uint4& a, const float2& b) {
  Warp& warp = block().warp();
  const auto& words = shown({a.x, a.y, a.z, a.w, bits_of<unsigned>(b.x), bits_of<unsigned>(b.y)});
  const int lane = block().lane();
  float sums[4];
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4, below = i / 2, column = lane % 4 * 2 + i % 2;
    sums[i] = c[i];
    for (int k = 0; k < 8; ++k) {
      const float left = bits_of<float>(words[row * 4 + k % 4][k / 4 * 2 + below]);
      const float right = bits_of<float>(words[column * 4 + k % 4][4 + k / 4]);
      sums[i] += to_tf32(left) * to_tf32(right);
    }
  }
  block().wait(warp);
  std::copy(sums, sums + 4, c);
}

}  // namespace emulation

inline void __syncthreads() {
  emulation::synchronise_block();
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int lanes) {
  return emulation::from_lane(value, emulation::block().lane() ^ lanes);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, int lanes) {
  const int lane = emulation::block().lane();
  return emulation::from_lane(value, lane < lanes ? lane : lane - lanes);
}
template <typename T>
T __shfl_down_sync(unsigned, T value, int lanes) {
  const int lane = emulation::block().lane();
  return emulation::from_lane(value, lane + lanes < emulation::kLanes ? lane + lanes : lane);
}

// ---- The runtime, as far as the operators use it -------------------------------------------------------------------

using cudaStream_t = void*;
using cudaError_t = int;
constexpr int cudaFuncAttributeMaxDynamicSharedMemorySize = 0, cudaDevAttrMultiProcessorCount = 0,
              cudaMemcpyDeviceToDevice = 0;
#undef STD_CUDA_CHECK
#define STD_CUDA_CHECK(call) static_cast<void>(call)

inline int aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, int, int) {
  return 0;
}
inline cudaError_t cudaDeviceGetAttribute(int* processors, int, int32_t) {
  *processors = emulation::processors;
  return 0;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return 0;
}

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  const dim3& blocks = config->gridDim;
  emulation::Block block(config->blockDim, config->dynamicSmemBytes, [&] { kernel(arguments...); });
  emulation::Block::current() = &block;
  ++emulation::launches;
  blockDim = config->blockDim, gridDim = blocks;
  for (unsigned z = 0; z < blocks.z; ++z)
    for (unsigned y = 0; y < blocks.y; ++y)
      for (unsigned x = 0; x < blocks.x; ++x) blockIdx = {x, y, z}, block.run();
  return 0;
}

namespace lesioncore {
template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(emulation::block().shared());
}
}  // namespace lesioncore
