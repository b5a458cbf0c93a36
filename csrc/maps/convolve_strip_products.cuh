// Matrix products of the strip convolutions (3 x 3, 16 channels at a time) on tensor cores: the layout of a strip's
// pixels and of the weights, the products themselves.
//
// A block takes a strip of columns downwards, in batches of rows. One batch lies in shared memory, the next one is on
// its way into registers meanwhile. Each warp computes 16 output channels of 8 pixels of every row:
//
//             warp 0     warp 1            warp 6
//           |<- 8 px ->|<- 8 px ->|     |<- 8 px ->|
//           +----------+----------+-   -+----------+
//     rows  |          |          | ... |          |   in one half of the ring, multiplied now
//           +----------+----------+-   -+----------+
//     rows  |          |          | ... |          |   fetched into registers, then kept in the other half
//           +----------+----------+-   -+----------+
//
// A row that is in shared memory is multiplied by all three rows of the kernel, and sums that still lack a row roll on
// to the next batch.
//
// One product is D += A B: A holds weights of a tap [16 outputs, 8 channels], B values [8 channels, 8 pixels]. Two such
// steps take all 16 channels. The order of channels in the sum is free, and so is that of outputs and pixels; it is
// chosen so that a lane reads 4 channels of a pixel with one read of 16 bytes, and lanes write neighbouring pixels.
// Lane l then reads B, and ends with D, as follows (columns in the order of the product):
//
//     B, pixel        0    4    1    5    2    6    3    7        D, pixel         0 4   1 5   2 6   3 7
//     channels 0-3    l0   l4   l8   l12  l16  l20  l24  l28      outputs 0, 1     l0    l1    l2    l3
//     channels 4-7    l1   l5   l9   l13  l17  l21  l25  l29      outputs 2, 3     l4    l5    l6    l7
//     channels 8-11   l2   l6   l10  l14  l18  l22  l26  l30      ...
//     channels 12-15  l3   l7   l11  l15  l19  l23  l27  l31      outputs 14, 15   l28   l29   l30   l31
//
// The first step takes the lower two of a lane's four channels, the second the upper two. Of A, lane l has the weights
// of outputs 2 (l / 4) and 2 (l / 4) + 1 and of channels 4 (l % 4) to 4 (l % 4) + 3.
//
// Factors are rounded to TF32 (which keeps bfloat16 as it is), sums are float32.
#pragma once

#include "maps/maps_cuda.cuh"

namespace lesioncore {

constexpr int kStripWarps = 7, kStripPixels = 8 * kStripWarps, kStripThreads = 32 * kStripWarps;
constexpr int kChannelBlock = 16;  // outputs of a warp, and inputs of one round of products

static __device__ __forceinline__ float to_tf32(float x) {
#if defined(__CUDACC__)
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
#else
  return emulation::to_tf32(x);
#endif
}

// c += a b, with half of the channels of a tap.
static __device__ __forceinline__ void multiply_add(float (&c)[4], const uint4& a, const float2& b) {
#if defined(__CUDACC__)
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(__float_as_uint(b.x)), "r"(__float_as_uint(b.y)));
#else
  emulation::multiply_add(c, a, b);
#endif
}

// The two of the lane's four channels that a step takes.
static __device__ __forceinline__ float2 channels_of(const float4& values, int step) {
  return step == 0 ? make_float2(values.x, values.y) : make_float2(values.z, values.w);
}

// The lane's weights of a step; at(output, channel) reads one.
template <typename At>
static __device__ __forceinline__ uint4 weights_of(int step, const At& at) {
  const int output = threadIdx.x % 32 / 4 * 2, channel = threadIdx.x % 4 * 4 + step * 2;
  auto bits = [&](int m, int k) { return __float_as_uint(to_tf32(at(output + m, channel + k))); };
  return make_uint4(bits(0, 0), bits(1, 0), bits(0, 1), bits(1, 1));
}

constexpr int kWeightSteps = kTaps * 2;  // step s of tap t is at 2 t + s

// Fills shared memory with the weights of one block of outputs and one of inputs; at(output, tap, channel) reads one.
// The warps of the block of outputs, of which this is number `warp`, share the work.
template <typename At>
static __device__ __forceinline__ void load_weights(uint4 (&weights)[kWeightSteps][32], int warp, const At& at) {
  for (int i = warp; i < kWeightSteps; i += kStripWarps)
    weights[i][threadIdx.x % 32] =
        weights_of(i % 2, [&](int output, int channel) { return at(output, i / 2, channel); });
}

// The weights of one block of outputs and one of inputs in a warp's registers.
struct WarpWeights {
  uint4 of[kTaps][2];

  // at(output, tap, channel) reads one.
  template <typename At>
  __device__ __forceinline__ explicit WarpWeights(const At& at) {
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
#pragma unroll
      for (int step = 0; step < 2; ++step)
        of[tap][step] = weights_of(step, [&](int output, int channel) { return at(output, tap, channel); });
    }
  }

  // sums += weights of a tap times the 16 channels of this warp's 8 pixels
  __device__ __forceinline__ void add(float (&sums)[4], int tap, const float4& values) const {
#pragma unroll
    for (int step = 0; step < 2; ++step) multiply_add(sums, of[tap][step], channels_of(values, step));
  }
};

// The pixel whose channels the lane reads; it ends with the sums of pixels l % 4 and l % 4 + 4 (see the figure).
static __device__ __forceinline__ int read_pixel() {
  const int n = threadIdx.x % 32 / 4;
  return n / 2 + n % 2 * 4;
}

// Offset of a pixel's channels in shared memory, in float4. A gap after every fourth pixel puts pixels that lie four
// apart on different banks:
//
//     offset   0   4   8   12  16   20  24  28  32  36   40
//     pixel    0   1   2   3   gap  4   5   6   7   gap  8  ...
static __device__ __forceinline__ int slot(int pixel) {
  return (pixel + pixel / 4) * 4;
}
// Size of a row of pixels in shared memory, in float4.
static constexpr __host__ __device__ int slots(int pixels) {
  return (pixels + (pixels - 1) / 4) * 4;
}

static __device__ __forceinline__ void set_zero(float (&sums)[4]) {
#pragma unroll
  for (float& sum : sums) sum = 0.0f;
}

static __device__ __forceinline__ void copy(float (&to)[4], const float (&from)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) to[i] = from[i];
}

// After a batch: the last kKept rows of sums, which still lack products, become the first ones.
template <int kKept, int kCount>
static __device__ __forceinline__ void roll_on(float (&sums)[kCount][4]) {
#pragma unroll
  for (int k = 0; k < kKept; ++k) copy(sums[k], sums[kCount - kKept + k]);
#pragma unroll
  for (int k = kKept; k < kCount; ++k) set_zero(sums[k]);
}

}  // namespace lesioncore
