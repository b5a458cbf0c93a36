// Kernel launches: the device and stream of a tensor, dynamic shared memory.
//
// nvcc compiles these sources, and for tests a plain C++ compiler does so against a cuda_runtime.h that runs kernels on
// the host. Kernels are therefore launched by a function, and `__CUDACC__` guards what only nvcc understands.
//
// Contraction to fused multiply-add is off in this library as it is on the CPU, so that kernels can give the CPU's
// bits; they are bound by memory, not arithmetic.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <stdexcept>

#include "tensor.h"

namespace lesioncore {

// A tensor's device, and torch's current stream there.
class Queue {
 public:
  explicit Queue(const Tensor& t) : guard_(t.get_device_index()) {
    void* stream = nullptr;
    // torch's own macro for this call is not used, since its name changed between releases.
    if (aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream) != 0)
      throw std::runtime_error("lesioncore: torch has no current stream of the tensor's CUDA device");
    stream_ = static_cast<cudaStream_t>(stream);
  }

  cudaStream_t stream() const { return stream_; }

  // Starts kernel(arguments...) with this many bytes of dynamic shared memory for each block.
  template <typename... Parameters, typename... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t shared,
              const Arguments&... arguments) const {
    // Above 48 KB shared memory must be asked for; the setting belongs to the kernel, not to a stream.
    if (shared > 48 * 1024)
      STD_CUDA_CHECK(
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks, config.blockDim = threads, config.dynamicSmemBytes = shared, config.stream = stream_;
    STD_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

#if defined(__CUDACC__)
// The dynamic shared memory of this block.
template <typename T>
static __device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char lesioncore_shared[];
  return reinterpret_cast<T*>(lesioncore_shared);
}
#endif

}  // namespace lesioncore
