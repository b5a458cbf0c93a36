// Position of a pixel in a volume [N, D, H, W]: linear offset, and the coordinates that the boundary rules look at.
#pragma once

#include <cstdint>

#include "tv/tv.h"

namespace lesioncore {

struct Pixel {
  int64_t offset, slice, row, column;  // slice within its stack
};

static LC_INLINE Pixel left_of(const Pixel& p) {
  return {p.offset - 1, p.slice, p.row, p.column - 1};
}
static LC_INLINE Pixel above(const Pixel& p, const Shape& s) {
  return {p.offset - s.width, p.slice, p.row - 1, p.column};
}
static LC_INLINE Pixel in_front_of(const Pixel& p, const Shape& s) {
  return {p.offset - s.slice(), p.slice - 1, p.row, p.column};
}

}  // namespace lesioncore
