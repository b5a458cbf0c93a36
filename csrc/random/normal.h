// Standard normal numbers from counters, shared by the CPU and the CUDA kernel: number i of a stream's call is a function
// of (seed, call, i) alone, so it does not matter who draws it, where and after what.
//
// Philox4x32-10 (Salmon et al., SC 2011) makes 128 bits of a key, the seed, and a counter; Box and Muller (1958) make
// four normal numbers of them. In double, and rounded once: what the logarithms and sines of CPU and CUDA differ by is
// nearly always lost in the rounding.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace lesioncore {

constexpr int kFour = 4;  // numbers of a counter

struct Counter {
  uint32_t word[kFour];
};

struct Normals {
  float value[kFour];
};

// A stream is a row of two: its seed, and how many calls there were before.
static LC_INLINE Counter counter_of(int64_t call, int64_t four) {
  const auto c = static_cast<uint64_t>(call), i = static_cast<uint64_t>(four);
  return {{static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), static_cast<uint32_t>(c),
           static_cast<uint32_t>(c >> 32)}};
}

static LC_INLINE Counter philox(Counter c, int64_t seed) {
  uint32_t first = static_cast<uint32_t>(static_cast<uint64_t>(seed));
  uint32_t second = static_cast<uint32_t>(static_cast<uint64_t>(seed) >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = static_cast<uint64_t>(0xD2511F53u) * c.word[0];
    const uint64_t b = static_cast<uint64_t>(0xCD9E8D57u) * c.word[2];
    c = {{static_cast<uint32_t>(b >> 32) ^ c.word[1] ^ first, static_cast<uint32_t>(b),
          static_cast<uint32_t>(a >> 32) ^ c.word[3] ^ second, static_cast<uint32_t>(a)}};
    first += 0x9E3779B9u;
    second += 0xBB67AE85u;
  }
  return c;
}

static LC_INLINE Normals normals(Counter bits) {
  constexpr double kUnit = 1.0 / 4294967296.0, kTurn = 6.283185307179586476925;
  Normals found;
  for (int pair = 0; pair < kFour; pair += 2) {
    const double uniform = (static_cast<double>(bits.word[pair]) + 0.5) * kUnit;  // never 0
    const double radius = square_root(-2.0 * log(uniform));
    const double angle = kTurn * (static_cast<double>(bits.word[pair + 1]) * kUnit);
    found.value[pair] = static_cast<float>(radius * cos(angle));
    found.value[pair + 1] = static_cast<float>(radius * sin(angle));
  }
  return found;
}

// Writes the numbers [4 * four, 4 * four + 4) of a stream's call, as far as there are `count`.
static LC_INLINE void draw_four(const int64_t* stream, int64_t four, int64_t count, float* out) {
  const Normals found = normals(philox(counter_of(stream[1], four), stream[0]));
  for (int i = 0; i < kFour && kFour * four + i < count; ++i) out[kFour * four + i] = found.value[i];
}

}  // namespace lesioncore
