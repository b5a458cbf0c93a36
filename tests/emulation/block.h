// The threads of a block, run on the host: each is a fiber with a stack of its own. It runs until it waits, at a barrier
// or for its warp, and then the next one runs; who starts, and whether threads follow in rising or falling order,
// changes from turn to turn, so that a missing barrier shows as a wrong result.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Of the thread that runs.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

template <typename To, typename From>
To bits_of(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
namespace emulation {

constexpr int kLanes = 32;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStack = 512 * 1024;  // frames are larger between guards
#else
constexpr size_t kStack = 64 * 1024;
#endif

// What a sanitizer of addresses has to know of a change of stacks; nothing in other builds.
struct Stack {
  const void* bottom;
  size_t size;
};
#ifdef __SANITIZE_ADDRESS__
inline void leave_for(Stack next) {
  __sanitizer_start_switch_fiber(nullptr, next.bottom, next.size);
}
inline Stack arrive() {
  Stack last;
  __sanitizer_finish_switch_fiber(nullptr, &last.bottom, &last.size);
  return last;
}
inline void forget_frames(Stack stack) {
  __asan_unpoison_memory_region(stack.bottom, stack.size);
}
#else
inline void leave_for(Stack) {}
inline Stack arrive() {
  return {};
}
inline void forget_frames(Stack) {}
#endif

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
        shared_((shared + sizeof(Unit) - 1) / sizeof(Unit)) {
    for (size_t i = 0; i < fibers_.size(); ++i) {
      const auto thread = static_cast<unsigned>(i);
      fibers_[i].index = {thread % size.x, thread / size.x % size.y, thread / (size.x * size.y)};
    }
    while (stacks().size() < fibers_.size()) stacks().push_back(std::make_unique<char[]>(kStack));
  }

  void run() {
    for (Unit& unit : shared_) std::memset(unit.bytes, 0xff, sizeof unit);
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
    if (barrier.passed >= me.until) return;
    if (_setjmp(me.at) == 0) {
      leave_for(host_);
      _longjmp(scheduler_, 1);
    }
    arrive();
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
    char* stack = stacks()[thread].get();
    if (_setjmp(scheduler_) != 0) {
      arrive();
      return true;
    }
    leave_for({stack, kStack});
    if (fiber.state == State::kStarted) _longjmp(fiber.at, 1);
    fiber.state = State::kStarted;
    forget_frames({stack, kStack});  // those of the thread that had it before, which never returned
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack, context.uc_stack.ss_size = kStack;
    makecontext(&context, enter, 0);
    setcontext(&context);
    return true;  // never: the thread comes back by a jump
  }

  static void enter() {
    Block& block = *current();
    block.host_ = arrive();
    block.kernel_();
    block.fibers_[block.now_].state = State::kEnded;
    block.warp().leave();
    block.everyone_.leave();
    leave_for(block.host_);
    _longjmp(block.scheduler_, 1);
  }

  std::function<void()> kernel_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::vector<Unit> shared_;
  Barrier everyone_;
  jmp_buf scheduler_;
  Stack host_{};
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

}  // namespace emulation
