// tv_prox_: out = argmin_D 1/2 |D - v|^2 + weight[n] TV(D) subject to D = 0 outside the mask, by accelerated projected
// gradient on the dual (FGP: Beck & Teboulle, IEEE TIP 2009):
//   D(q) = mask * (v - weight K^T q),  p' = project(q + K D(q) / (L weight)),  q' = p' + momentum (p' - p).
// Formulas in tv.h; the CPU twin is tv_prox_cpu.cpp.
//
// Boundary: differences across the far edge of an axis are zero, no wrap-around; the dual is zero there.
// Storage: p, the previous p and the next p rotate through `dual` and two scratch fields, since neighbours read the
// first two while the third is written. The momentum is a sequence known on the host: a captured graph replays exactly.
// Thread map: one launch per iteration, one thread per pixel in tiles of 32 x 8; a thread forms D at its pixel and at
// the next one along each axis from p and the previous p, through L1. One launch more for the result.
// Bytes per pixel and iteration (2-D): 21 read + 8 written.
// A weight that is negative or NaN gives NaN in the mask: looking at it here would cost a synchronisation.
#include <torch/csrc/stable/library.h>

#include "cuda_common.cuh"

namespace lesioncore {
namespace {

// A dual field as the kernels read it: 0 where no difference exists, whatever is stored there.
struct DualField {
  const float* data;
  int64_t component;  // elements per component

  template <bool kCoupled>
  __device__ __forceinline__ Triple<float> at(const Pixel& p, const Shape& s) const {
    return {x(p, s), y(p, s), kCoupled ? z(p, s) : 0.0f};
  }
  __device__ __forceinline__ float x(const Pixel& p, const Shape& s) const {
    return p.column + 1 < s.width ? data[p.offset] : 0.0f;
  }
  __device__ __forceinline__ float y(const Pixel& p, const Shape& s) const {
    return p.row + 1 < s.height ? data[component + p.offset] : 0.0f;
  }
  __device__ __forceinline__ float z(const Pixel& p, const Shape& s) const {
    return p.slice + 1 < s.depth ? data[2 * component + p.offset] : 0.0f;
  }

  template <bool kCoupled>
  __device__ __forceinline__ float adjoint_at(const Pixel& p, const Shape& s, float depth_weight) const {
    Triple<float> before = {p.column > 0 ? x(left_of(p), s) : 0.0f, p.row > 0 ? y(above(p, s), s) : 0.0f, 0.0f};
    if constexpr (kCoupled) before.z = p.slice > 0 ? z(in_front_of(p, s), s) : 0.0f;
    return adjoint<kCoupled>(before, at<kCoupled>(p, s), depth_weight);
  }
};

struct Problem {
  Shape shape;
  const float* v;
  const bool* mask;
  const float* weight;
  int64_t weight_stride;
  const float* step;  // [N], made by step_kernel
  float depth_weight;
};

__global__ void step_kernel(Problem problem, float* step) {
  for (int64_t n = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < problem.shape.stacks;
       n += static_cast<int64_t>(gridDim.x) * blockDim.x)
    step[n] = static_cast<float>(dual_step(static_cast<double>(problem.weight[n * problem.weight_stride]),
                                           static_cast<double>(problem.depth_weight)));
}

template <bool kIsotropic, bool kCoupled>
__global__ void __launch_bounds__(kTileWidth* kTileHeight)
    iteration_kernel(Problem problem, DualField field, DualField before, float* next, float momentum) {
  const Shape& s = problem.shape;
  for_pixels(s, [&](const Pixel& p, int64_t stack) {
    const float weight = problem.weight[stack * problem.weight_stride];
    if (!(weight > 0.0f)) return;  // result_kernel sees to it
    auto primal = [&](const Pixel& at) {
      return prox_primal(problem.v[at.offset], field.adjoint_at<kCoupled>(at, s, problem.depth_weight),
                         before.adjoint_at<kCoupled>(at, s, problem.depth_weight), problem.mask[at.offset], weight,
                         momentum);
    };
    const float here = primal(p);
    Triple<float> k = {0.0f, 0.0f, 0.0f};
    if (p.column + 1 < s.width) k.x = primal({p.offset + 1, p.slice, p.row, p.column + 1}) - here;
    if (p.row + 1 < s.height) k.y = primal({p.offset + s.width, p.slice, p.row + 1, p.column}) - here;
    if constexpr (kCoupled)
      if (p.slice + 1 < s.depth)
        k.z = problem.depth_weight * (primal({p.offset + s.slice(), p.slice + 1, p.row, p.column}) - here);
    const Triple<float> result = prox_dual<kIsotropic, kCoupled>(field.at<kCoupled>(p, s), before.at<kCoupled>(p, s), k,
                                                                 momentum, problem.step[stack]);
    next[p.offset] = result.x;
    next[field.component + p.offset] = result.y;
    if constexpr (kCoupled) next[2 * field.component + p.offset] = result.z;
  });
}

// out = D(field), and the field into `dual`, far edges cleared. weight 0: out = mask * v and a dual of zero.
// `dual` may be the field itself: then only far edges are written, which no thread reads.
template <bool kCoupled>
__global__ void __launch_bounds__(kTileWidth* kTileHeight)
    result_kernel(Problem problem, DualField field, float* dual, float* out) {
  const Shape& s = problem.shape;
  for_pixels(s, [&](const Pixel& p, int64_t stack) {
    const float weight = problem.weight[stack * problem.weight_stride];
    const bool inside = problem.mask[p.offset];
    Triple<float> own = {0.0f, 0.0f, 0.0f};
    if (weight > 0.0f) {
      const float a = field.adjoint_at<kCoupled>(p, s, problem.depth_weight);
      out[p.offset] = prox_primal(problem.v[p.offset], a, a, inside, weight, 0.0f);
      own = field.at<kCoupled>(p, s);
    } else {
      out[p.offset] = inside ? (weight == 0.0f ? problem.v[p.offset] : __int_as_float(0x7fc00000)) : 0.0f;
    }
    const bool copy = field.data != dual || !(weight > 0.0f);
    if (copy || p.column + 1 == s.width) dual[p.offset] = own.x;
    if (copy || p.row + 1 == s.height) dual[field.component + p.offset] = own.y;
    if constexpr (kCoupled)
      if (copy || p.slice + 1 == s.depth) dual[2 * field.component + p.offset] = own.z;
  });
}

void tv_prox_cuda(const Tensor& v, const Tensor& mask, const Tensor& weight, const Tensor& dual, const Tensor& out,
                  double depth_weight, bool isotropic, int64_t iterations) {
  const TvProxCall call = check_tv_prox(v, mask, weight, dual, out, depth_weight, iterations);
  const Shape shape = call.shape;
  if (shape.numel() == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(v.get_device_index());
  const cudaStream_t stream = current_stream(v);
  const int64_t numel = shape.numel(), size = numel * (call.coupled ? 3 : 2);
  const int64_t scratch_size[] = {2 * size + shape.stacks};
  const Tensor scratch = torch::stable::new_empty(v, {scratch_size, 1});
  float* fields[3] = {mutable_data<float>(dual), mutable_data<float>(scratch), mutable_data<float>(scratch) + size};
  float* step = mutable_data<float>(scratch) + 2 * size;
  const Problem problem{shape,
                        data<float>(v),
                        data<bool>(mask),
                        data<float>(weight),
                        call.weight_stride,
                        step,
                        call.coupled ? static_cast<float>(depth_weight) : 0.0f};

  constexpr int kBlock = 256;
  const auto step_blocks = static_cast<unsigned>(std::min<int64_t>((shape.stacks + kBlock - 1) / kBlock, 1024));
  step_kernel<<<step_blocks, kBlock, 0, stream>>>(problem, step);
  STD_CUDA_KERNEL_LAUNCH_CHECK();

  double t = 1.0, momentum = 0.0;
  for (int64_t k = 0; k < iterations; ++k) {
    // Nothing precedes the first iteration: its momentum is 0 and the field stands in for the scratch.
    const DualField field{fields[k % 3], numel}, before{fields[k == 0 ? 0 : (k - 1) % 3], numel};
    float* next = fields[(k + 1) % 3];
    for_variant(isotropic, call.coupled, [&](auto iso, auto coupled) {
      iteration_kernel<decltype(iso)::value, decltype(coupled)::value>
          <<<tile_grid(shape), tile_block(), 0, stream>>>(problem, field, before, next, static_cast<float>(momentum));
    });
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    momentum = next_momentum(t);
  }
  const DualField last{fields[iterations % 3], numel};
  for_variant(isotropic, call.coupled, [&](auto, auto coupled) {
    result_kernel<decltype(coupled)::value><<<tile_grid(shape), tile_block(), 0, stream>>>(
        problem, last, mutable_data<float>(dual), mutable_data<float>(out));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CUDA, m) {
  m.impl("tv_prox_", TORCH_BOX(&lesioncore::tv_prox_cuda));
}
