// convolve: a 3 x 3 convolution with what surrounds it, for few channels, where cuDNN is far from the memory's speed.
// The CPU twin is convolve_cpu.cpp.
//
// Kernels from one channel to many and from many to one, both in float32, are here; those for 16 and 32 channels on
// tensor cores are in convolve_strip_same.cuh and convolve_strip_down.cuh.
#include <torch/csrc/stable/library.h>

#include "maps/convolve_strip_down.cuh"
#include "maps/convolve_strip_down_adjoint.cuh"
#include "maps/convolve_strip_same.cuh"

namespace lesioncore {
namespace {

// From one channel. A block has some columns of kFromRows rows, with their border in shared memory. One thread for four
// output channels of a column, whose weights stay in registers; the kernel's three rows roll through them. Bytes: 4
// read, 4 C written, C / 8 signs.
constexpr int kFromRows = 20, kFromColumns = 128;

template <typename T, bool kActivate>
__global__ void __launch_bounds__(256) from_one_kernel(ConvolveArguments<T> a, int columns) {
  __shared__ float tile[kFromRows + 2][kFromColumns + 2];
  const int channels = a.out.channels, groups = channels / 4;
  const int group = threadIdx.x % groups, within_block = threadIdx.x / groups;
  const int left = blockIdx.x * columns, column = left + within_block;
  const int height = a.out.height, width = a.out.width;
  const bool inside = within_block < columns && column < width;
  const int place = min(within_block, columns - 1);  // idle threads read along
  float weights[kTaps][4], bias[4];
#pragma unroll
  for (int c = 0; c < 4; ++c) {
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) weights[tap][c] = load<1>(a.weight + (group * 4 + c) * kTaps + tap).v[0];
    bias[c] = a.bias == nullptr ? 0.0f : load<1>(a.bias + group * 4 + c).v[0];
  }
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    const T* map = a.input + slice * height * width;
    for (int top = blockIdx.y * kFromRows; top < height; top += gridDim.y * kFromRows) {
      __syncthreads();  // the tile before has been read
      for (int i = threadIdx.x; i < (kFromRows + 2) * (columns + 2); i += blockDim.x) {
        const int y = i / (columns + 2), x = i - y * (columns + 2), row = top + y - 1, at = left + x - 1;
        const bool exists = row >= 0 && row < height && at >= 0 && at < width;
        tile[y][x] = exists ? load<1>(map + row * width + at).v[0] : 0.0f;
      }
      __syncthreads();
      float rows[3][3];
#pragma unroll
      for (int k = 0; k < 3; ++k) rows[0][k] = tile[0][place + k], rows[1][k] = tile[1][place + k];
      const int count = min(kFromRows, height - top);
      int64_t at = ((slice * height + top) * width + column) * channels + group * 4;
#pragma unroll 3
      for (int r = 0; r < count; ++r, at += static_cast<int64_t>(width) * channels) {
#pragma unroll
        for (int k = 0; k < 3; ++k) rows[2][k] = tile[r + 2][place + k];
        Channels<4> sum = {bias[0], bias[1], bias[2], bias[3]};
#pragma unroll
        for (int tap = 0; tap < kTaps; ++tap) {
#pragma unroll
          for (int c = 0; c < 4; ++c) sum.v[c] = fmaf(rows[tap / 3][tap % 3], weights[tap][c], sum.v[c]);
        }
        if constexpr (kActivate) {
          unsigned signs = 0;
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            signs |= static_cast<unsigned>(sum.v[c] > 0.0f) << c;
            sum.v[c] = leaky(sum.v[c], a.slope);
          }
          signs |= __shfl_xor_sync(0xffffffffu, signs, 1) << 4;  // the even lane's neighbour has the next four
          if (inside && group % 2 == 0) a.out_signs[at / 8] = static_cast<uint8_t>(signs);
        }
        if (inside) store<4>(a.result + at, sum);
#pragma unroll
        for (int k = 0; k < 3; ++k) rows[0][k] = rows[1][k], rows[1][k] = rows[2][k];
      }
    }
  }
}

// To one channel. A lane reads all channels of one pixel of a row and makes nine products of them, one for each place
// in the kernel; those along the row come from the neighbouring lanes, those of three rows roll through registers. A
// warp so makes 30 pixels of each row that it passes. Two rows together share the reads of the weights, which are as
// many as the products by fours. Bytes: 4 C read (1.2 times, with the borders), 4 written.
constexpr int kRowsTogether = 2;

template <typename T, bool kSigns>
__global__ void __launch_bounds__(128) to_one_kernel(ConvolveArguments<T> a, int rows_per_warp) {
  float* weights = dynamic_shared<float>();  // [channels / 4, kTaps, 4]
  const int channels = a.x.channels, height = a.out.height, width = a.out.width;
  for (int i = threadIdx.x; i < channels * kTaps; i += blockDim.x)
    weights[i] = load<1>(a.weight + i / 4 % kTaps * channels + i / (4 * kTaps) * 4 + i % 4).v[0];
  __syncthreads();
  const float bias = a.bias == nullptr ? 0.0f : load<1>(a.bias).v[0];
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int column = (blockIdx.x * warps + threadIdx.x / 32) * 30 + lane - 1;
  const bool reads = column >= 0 && column < width, writes = lane > 0 && lane < 31 && column < width;
  for (int64_t slice = blockIdx.z; slice < a.out.count; slice += gridDim.z) {
    for (int top = blockIdx.y * rows_per_warp; top < height; top += gridDim.y * rows_per_warp) {
      const int bottom = min(top + rows_per_warp, height);
      float above = bias, here = bias;  // sums of the two rows that are not complete
      for (int first = top - 1; first <= bottom; first += kRowsTogether) {
        float products[kRowsTogether][kTaps] = {};
        const int64_t at = ((slice * height + first) * width + column) * channels;
        for (int c = 0; c < channels; c += 8) {
          Channels<8> values[kRowsTogether];
#pragma unroll
          for (int r = 0; r < kRowsTogether; ++r) {
            values[r] = {};
            if (!reads || first + r < 0 || first + r >= min(height, bottom + 1)) continue;
            const int64_t from = at + r * width * channels + c;
            values[r] = load<8>(a.input + from);
            if constexpr (kSigns) apply_leaky_gradient(values[r], a.signs[from / 8], a.slope);
          }
#pragma unroll
          for (int part = 0; part < 2; ++part) {
#pragma unroll
            for (int tap = 0; tap < kTaps; ++tap) {
              const Channels<4> w = load<4>(weights + ((c / 4 + part) * kTaps + tap) * 4);
#pragma unroll
              for (int r = 0; r < kRowsTogether; ++r) {
#pragma unroll
                for (int k = 0; k < 4; ++k)
                  products[r][tap] = fmaf(values[r].v[part * 4 + k], w.v[k], products[r][tap]);
              }
            }
          }
        }
#pragma unroll
        for (int r = 0; r < kRowsTogether; ++r) {
          const int row = first + r;
          float along[3];
#pragma unroll
          for (int dy = 0; dy < 3; ++dy) {
            const float left = __shfl_up_sync(0xffffffffu, products[r][dy * 3], 1),
                        right = __shfl_down_sync(0xffffffffu, products[r][dy * 3 + 2], 1);
            along[dy] = left + products[r][dy * 3 + 1] + right;
          }
          // This row is the last of three for the pixel above, the second for that here, the first for that below.
          const float complete = above + along[2];
          if (row > top && row <= bottom && writes)
            store<1>(a.result + (slice * height + row - 1) * width + column, Channels<1>{{complete}});
          above = here + along[1];
          here = bias + along[0];
        }
      }
    }
  }
}

template <typename T>
void from_one(const ConvolveArguments<T>& a, const Queue& queue) {
  const int64_t groups = a.out.channels / 4, blocks = (a.out.width * groups + 255) / 256;
  const int64_t columns = (a.out.width + blocks - 1) / blocks;  // at most kFromColumns, for 8 channels
  const int64_t threads = (columns * groups + 31) / 32 * 32;
  const dim3 grid(static_cast<unsigned>(blocks),
                  static_cast<unsigned>(std::min<int64_t>((a.out.height + kFromRows - 1) / kFromRows, 65535)),
                  static_cast<unsigned>(std::min<int64_t>(a.out.count, 65535)));
  const auto launch = [&](auto kernel) {
    queue.launch(kernel, grid, dim3(static_cast<unsigned>(threads)), 0, a, static_cast<int>(columns));
  };
  a.out_signs != nullptr ? launch(from_one_kernel<T, true>) : launch(from_one_kernel<T, false>);
}

template <typename T>
void to_one(const ConvolveArguments<T>& a, const Queue& queue) {
  constexpr int kWarps = 4, kRows = 25;
  const int64_t columns = 30 * kWarps;
  const dim3 grid(static_cast<unsigned>((a.out.width + columns - 1) / columns),
                  static_cast<unsigned>(std::min<int64_t>((a.out.height + kRows - 1) / kRows, 65535)),
                  static_cast<unsigned>(std::min<int64_t>(a.out.count, 65535)));
  const auto bytes = static_cast<size_t>(a.x.channels * kTaps) * sizeof(float);
  queue.launch(a.signs != nullptr ? to_one_kernel<T, true> : to_one_kernel<T, false>, grid, dim3(32 * kWarps), bytes, a,
               kRows);
}

void convolve_cuda(const Tensor& x, std::optional<Tensor> signs, const Tensor& weight, std::optional<Tensor> bias,
                   std::optional<Tensor> skip, int64_t stride, double negative_slope, const Tensor& out,
                   std::optional<Tensor> out_signs) {
  const ConvolveCall call = check_convolve(x, pointer(signs), weight, pointer(bias), pointer(skip), stride,
                                           negative_slope, out, pointer(out_signs));
  const int64_t inputs = call.x.channels, outputs = call.out.channels;
  const Checks check("convolve");
  const bool from = inputs == 1 && stride == 1 && outputs % 8 == 0 && 256 % (outputs / 4) == 0 && outputs > 0;
  const bool to = outputs == 1 && stride == 1 && inputs % 8 == 0 && inputs > 0 && inputs <= 256;
  const bool narrows = inputs == 32 && outputs == 16 && stride == 1;
  const bool between = inputs == 16 && (outputs == 16 || (outputs == 32 && stride == 1));
  if (!from && !to && !narrows && !between)
    check.fail("weight", "has ", inputs, " channels in and ", outputs, " out at stride ", stride,
               ", expected on CUDA 1 and 8, 16, 32, ... 1024, a multiple of 8 up to 256 and 1, 16 and 16, 16 and 32,"
               " or 32 and 16, at stride 2 only 16 and 16: use torch.nn.functional.conv2d");
  if (!between && (call.enlarges || skip))
    check.fail(skip ? "skip" : "x", "is ", skip ? "given" : "smaller than 'out'",
               ", expected on CUDA only from 16 channels to 16 or 32");
  auto is_half = [&](const MapShape& s) { return 2 * s.height <= call.out.height && 2 * s.width <= call.out.width; };
  if (call.enlarges && !is_half(call.x))
    check.fail("x", "has ", call.x.height, " x ", call.x.width,
               " pixels, expected on CUDA at most half of those of 'out', ", call.out.height, " x ", call.out.width,
               ": enlarge it first");
  const bool same = call.skip.height == call.out.height && call.skip.width == call.out.width;
  if (skip && !same && (stride == 2 || !is_half(call.skip)))
    check.fail("skip", "has ", call.skip.height, " x ", call.skip.width, " pixels, expected on CUDA as many as 'out', ",
               call.out.height, " x ", call.out.width, ", or for stride 1 at most half: enlarge it first");
  if (stride == 2 && signs) check.fail("signs", "is given, expected on CUDA only at stride 1");
  if (call.out.numel() == 0) return;
  const Queue queue(x);
  for_type(x, [&](auto type) {
    using T = decltype(type);
    const ConvolveArguments<T> a{call.x,
                                 call.skip,
                                 call.out,
                                 Axes(call.x, call.out),
                                 Axes(call.skip, call.out),
                                 data<T>(x),
                                 data<T>(weight),
                                 bias ? data<T>(*bias) : nullptr,
                                 skip ? data<T>(*skip) : nullptr,
                                 signs ? data<uint8_t>(*signs) : nullptr,
                                 static_cast<float>(negative_slope),
                                 mutable_data<T>(out),
                                 out_signs ? mutable_data<uint8_t>(*out_signs) : nullptr};
    if (from)
      from_one(a, queue);
    else if (to)
      to_one(a, queue);
    else if (narrows)
      convolve_same_narrowing(a, queue);
    else if (stride == 2)
      convolve_down(a, queue);
    else if (outputs == 16)
      convolve_same<T, 16>(a, call.enlarges, queue);
    else
      convolve_same<T, 32>(a, call.enlarges, queue);
  });
}

void convolve_down_adjoint_cuda(const Tensor& gradient, const Tensor& weight, const Tensor& out) {
  const ConvolveCall call = check_convolve_down_adjoint(gradient, weight, out);
  if (call.x.channels != 16 || call.out.channels != 16)
    Checks("convolve_down_adjoint")
        .fail("weight", "has ", call.out.channels, " channels in and ", call.x.channels,
              " out, expected on CUDA 16 and 16: use torch's convolution_backward");
  if (call.out.numel() == 0) return;
  const Queue queue(gradient);
  for_type(gradient, [&](auto type) {
    using T = decltype(type);
    const Axes none(call.out, call.out);
    convolve_down_adjoint(ConvolveArguments<T>{call.x, call.x, call.out, none, none, data<T>(gradient), data<T>(weight),
                                               nullptr, nullptr, nullptr, 1.0f, mutable_data<T>(out), nullptr},
                          queue);
  });
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CUDA, m) {
  m.impl("convolve", TORCH_BOX(&lesioncore::convolve_cuda));
  m.impl("convolve_down_adjoint", TORCH_BOX(&lesioncore::convolve_down_adjoint_cuda));
}
