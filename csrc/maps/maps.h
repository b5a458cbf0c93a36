// Formulas of the operators on feature maps, shared by the CPU and the CUDA kernels.
//
// A map is contiguous [N, H, W, C], channels last. `signs` [N, H, W, C / 8] say which values a leaky-ReLU found
// positive: bit c % 8 of byte c / 8 belongs to channel c. Its gradient needs nothing else.
//
// Enlarging is bilinear, as torch.nn.functional.interpolate(align_corners=False) has it: output pixel i reads at
// s(i) = max(0, (i + 1/2) * small / large - 1/2), between the pixels floor(s) and, if there is one, the next.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace lesioncore {

struct MapShape {
  int64_t count, height, width, channels;
  LC_INLINE int64_t pixels() const { return count * height * width; }
  LC_INLINE int64_t numel() const { return pixels() * channels; }
};

constexpr int kTaps = 9;  // of a 3 x 3 kernel: tap dy * 3 + dx belongs to the neighbour (dy - 1, dx - 1)

template <typename T>
static LC_INLINE T leaky(T x, T negative_slope) {
  return x > T(0) ? x : x * negative_slope;
}

// Gradient before a leaky-ReLU from that behind it.
template <typename T>
static LC_INLINE T leaky_gradient(T gradient, bool positive, T negative_slope) {
  return positive ? gradient : gradient * negative_slope;
}

// A linear interpolation: (1 - weight) * value[first] + weight * value[second].
template <typename T>
struct Blend {
  int first, second;
  T weight;

  // The weight of one pixel.
  LC_INLINE T of(int pixel) const {
    return (first == pixel ? T(1) - weight : T(0)) + (second == pixel ? weight : T(0));
  }
};

// How one axis, of `small` pixels, is enlarged.
template <typename T>
struct Axis {
  int small;
  T ratio;  // small / large

  LC_INLINE Axis() : small(1), ratio(1) {}
  LC_INLINE Axis(int64_t from, int64_t to)
      : small(static_cast<int>(from)), ratio(static_cast<T>(from) / static_cast<T>(to)) {}

  LC_INLINE Blend<T> at(int i) const {
    const T exact = (static_cast<T>(i) + T(0.5)) * ratio - T(0.5), position = exact > T(0) ? exact : T(0);
    const int last = small - 1, whole = static_cast<int>(position), first = whole < last ? whole : last;
    return {first, first < last ? first + 1 : last, position - static_cast<T>(first)};
  }

  // The large map's pixels [begin, end) that may read pixel i of the small one: s of theirs is within 1 of i.
  LC_INLINE int readers_begin(int i) const {
    const int begin = static_cast<int>((static_cast<T>(i) - T(0.5)) / ratio - T(0.5));
    return begin > 0 ? begin : 0;
  }
  LC_INLINE int readers_end(int i, int large) const {
    const int end = static_cast<int>((static_cast<T>(i) + T(1.5)) / ratio - T(0.5)) + 1;
    return i + 1 == small || end > large ? large : end;
  }
};

}  // namespace lesioncore
