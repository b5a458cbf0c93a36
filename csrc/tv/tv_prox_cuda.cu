// tv_prox_: out = argmin_D 1/2 |D - v|^2 + weight[n] TV(D) subject to D = 0 outside the mask, by accelerated projected
// gradient on the dual (FGP: Beck & Teboulle, IEEE TIP 2009):
//   D(q) = mask * (v - weight K^T q),  p' = project(q + K D(q) / (L weight)),  q' = p' + momentum (p' - p).
// Formulas in tv.h; the CPU twin is tv_prox_cpu.cpp, whose bits these kernels give.
//
// Boundary: differences across the far edge of an axis are zero, no wrap-around; the dual is zero there.
// Kernels: a launch computes several iterations of uncoupled slices (tv_prox_tile.h) or one of coupled slices
// (tv_prox_march.h), and a last launch the result (tv_prox_problem.h). Their headers have thread map, bytes per pixel
// and reasons. tv_prox_schedule.h decides on launches and buffers.
// A weight that is negative or NaN gives NaN in the mask, because checking it here would cost a synchronisation.
#include <torch/csrc/stable/library.h>

#include <limits>

#include "tv/pixels_cuda.cuh"
#include "tv/tv_checks.h"
#include "tv/tv_prox_schedule.h"

namespace lesioncore {
namespace {

// A block as the programs see it, in the hands of one of its threads: phase(f) calls f with the thread's index and
// registers, and waits for the block's other threads.
template <typename State>
struct CudaBlock {
  State state;

  template <typename F>
  __device__ __forceinline__ void phase(const F& f) {
    f(static_cast<int>(threadIdx.x), state);
    __syncthreads();
  }
};

template <bool kIsotropic>
__global__ void __launch_bounds__(kMaxTileThreads) tile_kernel(const __grid_constant__ TilePass pass) {
  CudaBlock<Strip> block;
  tile_program<kIsotropic>(pass, blockIdx.x, dynamic_shared<float>(), block);
}

template <bool kIsotropic>
__global__ void __launch_bounds__(kColumnThreads, 2) march_kernel(const __grid_constant__ MarchPass pass) {
  __shared__ float memory[kMarchFloats];
  CudaBlock<MarchPixel> block;
  march_program<kIsotropic>(pass, blockIdx.x, memory, block);
}

template <bool kCoupled>
__global__ void __launch_bounds__(kTileWidth* kTileHeight) result_kernel(Problem problem, DualField field,
                                                                         float* dual,   // [C, N, D, H, W]
                                                                         float* out) {  // [N, D, H, W]
  for_pixels(problem.shape,
             [&](const Pixel& p, int64_t stack) { result_pixel<kCoupled>(problem, field, dual, out, p, stack); });
}

struct CudaLauncher {
  Problem problem;
  bool isotropic, coupled;
  float* dual;  // [C, N, D, H, W]
  float* out;   // [N, D, H, W]
  const Queue& queue;

  void tile(const TilePass& pass, int64_t blocks) const {
    auto* kernel = isotropic ? tile_kernel<true> : tile_kernel<false>;
    const size_t bytes = pass.grid.shared_floats() * sizeof(float);
    queue.launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(pass.grid.threads()), bytes, pass);
  }

  void march(const MarchPass& pass, int64_t blocks) const {
    auto* kernel = isotropic ? march_kernel<true> : march_kernel<false>;
    queue.launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kColumnThreads), 0, pass);
  }

  void result(const DualField& field) const {
    auto* kernel = coupled ? result_kernel<true> : result_kernel<false>;
    queue.launch(kernel, tile_grid(problem.shape), tile_block(), 0, problem, field, dual, out);
  }
};

void tv_prox_cuda(const Tensor& v, const Tensor& mask, const Tensor& weight, const Tensor& dual, const Tensor& out,
                  double depth_weight, bool isotropic, int64_t iterations) {
  const TvProxCall call = check_tv_prox(v, mask, weight, dual, out, depth_weight, iterations);
  if (call.shape.numel() == 0) return;
  if (call.coupled && call.shape.numel() > std::numeric_limits<int>::max())
    Checks("tv_prox_")
        .fail("v", "has ", call.shape.numel(), " values, expected fewer than 2^31 on CUDA where slices are ",
              "coupled: pass fewer stacks per call");
  const Queue queue(v);
  int processors = 0;
  STD_CUDA_CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, v.get_device_index()));

  const Problem problem{call.shape,         data<float>(v),
                        data<bool>(mask),   data<float>(weight),
                        call.weight_stride, call.coupled ? static_cast<float>(depth_weight) : 0.0f};
  const ProxSchedule schedule(problem, call.coupled, iterations, processors);
  const int64_t scratch_size[] = {schedule.scratch_floats()};
  const Tensor scratch = torch::stable::new_empty(v, {scratch_size, 1});
  const CudaLauncher launcher{problem, isotropic, call.coupled, mutable_data<float>(dual), mutable_data<float>(out),
                              queue};
  schedule.run(launcher.dual, mutable_data<float>(scratch), launcher);
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CUDA, m) {
  m.impl("tv_prox_", TORCH_BOX(&lesioncore::tv_prox_cuda));
}
