// LC_INLINE: the specifiers of functions that CPU and CUDA kernels share; and square_root, which is rounded correctly
// on both.
//
// Such functions have internal linkage and are always inlined: the CPU kernels are compiled once per instruction set,
// and no copy made for a newer processor may ever be shared with the code for an older one.
#pragma once

#if defined(__CUDACC__)
#define LC_INLINE __host__ __device__ __forceinline__
#else
#define LC_INLINE inline __attribute__((always_inline))
#endif

namespace lesioncore {

static LC_INLINE float square_root(float t) {
#if defined(__CUDA_ARCH__)
  return sqrtf(t);
#else
  return __builtin_sqrtf(t);
#endif
}

static LC_INLINE double square_root(double t) {
#if defined(__CUDA_ARCH__)
  return sqrt(t);
#else
  return __builtin_sqrt(t);
#endif
}

}  // namespace lesioncore
