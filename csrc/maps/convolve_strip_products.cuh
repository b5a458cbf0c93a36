// 3 x 3 convolutions of maps of 16 channels on tensor cores: how a strip's pixels and the weights are laid out for them.
//
// Factors are rounded to TF32 (bfloat16 ones are kept as they are), sums are float32.
//
// Thread map: a block takes a strip of columns downwards. Some rows of the strip lie in shared memory, the next ones are
// on their way into registers meanwhile. Each warp computes 16 output channels of 8 pixels of every row: a row that is
// there meets all three rows of the kernel, and sums that lack one roll on.
// In the matrix product D = A B, A holds the weights (16 outputs x 8 channels), B the values (8 channels x 8 pixels).
// Which channel stands where in the sum is free, and so is which output a row is: lane l takes channels 4 (l % 4) to
// 4 (l % 4) + 3 of one pixel with one read of 16 bytes, and ends with outputs 2 (l / 4) and 2 (l / 4) + 1 of two.
#pragma once

#include "maps/maps_cuda.cuh"

namespace lesioncore {

constexpr int kStripWarps = 7, kStripPixels = 8 * kStripWarps, kStripThreads = 32 * kStripWarps;
constexpr int kChannelBlock = 16;

static __device__ __forceinline__ float to_tf32(float x) {
#if defined(__CUDACC__)
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
#else
  return emulation::to_tf32(x);
#endif
}

// c += a b, with the weights of a tap and half of the sixteen channels, and this warp's eight pixels.
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

// Two of the lane's four channels: those of a step of the sum.
static __device__ __forceinline__ float2 channels_of(const float4& values, int step) {
  return step == 0 ? make_float2(values.x, values.y) : make_float2(values.z, values.w);
}

// The lane's part of them; at(output, channel).
template <typename At>
static __device__ __forceinline__ uint4 weights_of(int step, const At& at) {
  const int output = threadIdx.x % 32 / 4 * 2, channel = threadIdx.x % 4 * 4 + step * 2;
  auto bits = [&](int m, int k) { return __float_as_uint(to_tf32(at(output + m, channel + k))); };
  return make_uint4(bits(0, 0), bits(1, 0), bits(0, 1), bits(1, 1));
}

// All of one warp's weights, in registers.
struct WarpWeights {
  uint4 of[kTaps][2];

  // at(output, tap, channel)
  template <typename At>
  __device__ __forceinline__ explicit WarpWeights(const At& at) {
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
#pragma unroll
      for (int step = 0; step < 2; ++step)
        of[tap][step] = weights_of(step, [&](int output, int channel) { return at(output, tap, channel); });
    }
  }

  // sums += weights of a tap times the sixteen channels of this warp's eight pixels
  __device__ __forceinline__ void add(float (&sums)[4], int tap, const float4& values) const {
#pragma unroll
    for (int step = 0; step < 2; ++step) multiply_add(sums, of[tap][step], channels_of(values, step));
  }
};

// The n-th pixel (the product's columns) that a lane reads stands at n / 2 or, for odd n, four further: so the two
// pixels that a lane ends with are `lane % 4` and the fourth after it, and lanes write neighbouring pixels.
static __device__ __forceinline__ int read_pixel() {
  const int n = threadIdx.x % 32 / 4;
  return n / 2 + n % 2 * 4;
}

// Where a pixel's sixteen channels lie in shared memory: a gap after every fourth puts pixels that lie four apart on
// different banks.
static __device__ __forceinline__ int slot(int pixel) {
  return (pixel + pixel / 4) * 4;
}
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

}  // namespace lesioncore
