// Counter-based standard normal numbers (Philox and Box-Muller), the formulas that the CPU and the CUDA kernel share.
//
// Number i of a stream's call is a function of (seed, call, i) alone, so it does not matter which thread draws it,
// where and when. Philox4x32-10 (Salmon et al., SC 2011) makes 128 random bits of a key, the seed, and a counter; Box
// and Muller's transform (1958) makes four normal numbers of them. It is computed in double and rounded once, because
// the logarithms and sines of CPU and CUDA differ in their last bits, and the rounding nearly always removes the
// difference.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace lesioncore {

constexpr int kCounterWords = 4;  // 32-bit words of a counter, and so normal numbers that one counter gives

struct Counter {
  uint32_t word[kCounterWords];
};

struct Normals {
  float value[kCounterWords];
};

// The counter's low 64 bits are its index within the call, the high ones the number of the call.
static LC_INLINE Counter counter_of(int64_t call, int64_t index) {
  const auto c = static_cast<uint64_t>(call), i = static_cast<uint64_t>(index);
  return {{static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), static_cast<uint32_t>(c),
           static_cast<uint32_t>(c >> 32)}};
}

// Ten rounds of Philox4x32: random bits in place of the counter.
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

// Box and Muller's transform of two pairs of words.
static LC_INLINE Normals normals(Counter bits) {
  constexpr double kUnit = 1.0 / 4294967296.0, kTurn = 6.283185307179586476925;
  Normals found;
  for (int pair = 0; pair < kCounterWords; pair += 2) {
    const double uniform = (static_cast<double>(bits.word[pair]) + 0.5) * kUnit;  // never 0
    const double radius = square_root(-2.0 * log(uniform));
    const double angle = kTurn * (static_cast<double>(bits.word[pair + 1]) * kUnit);
    found.value[pair] = static_cast<float>(radius * cos(angle));
    found.value[pair + 1] = static_cast<float>(radius * sin(angle));
  }
  return found;
}

// Writes the numbers of counter `index` of a stream's call; the last counter of a call writes fewer than four if
// `count` is no multiple of four.
static LC_INLINE void draw_counter(const int64_t* stream,  // [2]: seed, number of the call
                                   int64_t index, int64_t count,
                                   float* out) {  // [count]
  const Normals found = normals(philox(counter_of(stream[1], index), stream[0]));
  const int64_t first = kCounterWords * index;
  for (int i = 0; i < kCounterWords && first + i < count; ++i) out[first + i] = found.value[i];
}

}  // namespace lesioncore
