// activate_, activation_gradient, enlarge, enlarge_adjoint on CUDA: the operators between the convolutions of a
// network. Formulas in maps.h; the CPU twin is maps_cpu.cpp.
//
// Thread map: one thread per eight channels of a pixel (32 bytes in float32, 16 in bfloat16), and so per byte of signs.
// Sums are float32. The adjoint gathers what a pixel of the small map gave, without atomics, so that every run gives
// the same bits.
// Bytes per element (float32): activation 4 read + 4 written + 1/8, its gradient the same; enlarging writes 4 for each
// of the large map and reads the small one once, through the caches; its adjoint the other way round.
#include <torch/csrc/stable/library.h>

#include "maps/maps_cuda.cuh"

namespace lesioncore {
namespace {

constexpr int kChannelsPerThread = 8;  // one byte of signs

template <typename T, Skip kSkip>
__global__ void __launch_bounds__(256) activate_kernel(MapShape s, MapShape small, Axes axes,
                                                       T* x,           // [N, H, W, C], `s`
                                                       const T* bias,  // [C] or null
                                                       const T* skip,  // [N, h, w, C], `small`, or null
                                                       float slope,
                                                       uint8_t* signs) {  // [N, H, W, C / 8], one bit per channel
  for_row_parts<kChannelsPerThread>(s, [&](int64_t slice, int row, int column, int channel) {
    const int64_t at = ((slice * s.height + row) * s.width + column) * s.channels + channel;
    Channels<kChannelsPerThread> c = load<kChannelsPerThread>(x + at);
    if (bias != nullptr) {
      const Channels<kChannelsPerThread> b = load<kChannelsPerThread>(bias + channel);
#pragma unroll
      for (int i = 0; i < kChannelsPerThread; ++i) c.v[i] += b.v[i];
    }
    if constexpr (kSkip != Skip::kNone) {
      Channels<kChannelsPerThread> added;
      if constexpr (kSkip == Skip::kSame) {
        added = load<kChannelsPerThread>(skip + at);
      } else {
        added = enlarged<kChannelsPerThread>(skip + slice * small.height * small.width * small.channels, small.width,
                                             s.channels, axes.rows.at(row), axes.columns.at(column), channel);
      }
#pragma unroll
      for (int i = 0; i < kChannelsPerThread; ++i) c.v[i] += added.v[i];
    }
    unsigned byte = 0;
#pragma unroll
    for (int i = 0; i < kChannelsPerThread; ++i) {
      byte |= static_cast<unsigned>(c.v[i] > 0.0f) << i;
      c.v[i] = leaky(c.v[i], slope);
    }
    store<kChannelsPerThread>(x + at, c);
    signs[at / 8] = static_cast<uint8_t>(byte);
  });
}

template <typename T>
__global__ void __launch_bounds__(256) activation_gradient_kernel(int64_t bytes,
                                                                  const T* gradient,     // [bytes, 8]
                                                                  const uint8_t* signs,  // [bytes], one bit per channel
                                                                  float slope,
                                                                  T* out) {  // [bytes, 8]
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < bytes;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    Channels<kChannelsPerThread> c = load<kChannelsPerThread>(gradient + 8 * i);
    apply_leaky_gradient(c, signs[i], slope);
    store<kChannelsPerThread>(out + 8 * i, c);
  }
}

template <typename T, int kCount>
__global__ void __launch_bounds__(256) enlarge_kernel(MapShape small, MapShape large, Axes axes,
                                                      const T* x,  // [N, h, w, C], `small`
                                                      T* out) {    // [N, H, W, C], `large`
  for_row_parts<kCount>(large, [&](int64_t slice, int row, int column, int channel) {
    store<kCount>(out + ((slice * large.height + row) * large.width + column) * large.channels + channel,
                  enlarged<kCount>(x + slice * small.height * small.width * small.channels, small.width, small.channels,
                                   axes.rows.at(row), axes.columns.at(column), channel));
  });
}

// A thread takes some channels of a column of the small map downwards. It first adds up what a row of the large map
// gives to the column, along that row, and then shares the sum between the two rows of the small map that the row lies
// between. So each row is read once (and about two more for each strip), and a column by the two or three threads that
// take part of it, through L1.
constexpr int kAdjointStrip = 16;  // rows of the small map that a thread takes in turn

__host__ __device__ MapShape strips_of(MapShape small) {
  small.height = (small.height + kAdjointStrip - 1) / kAdjointStrip;
  return small;
}

template <typename T, int kCount, bool kSigns>
__global__ void __launch_bounds__(256)
    enlarge_adjoint_kernel(MapShape small, MapShape large, Axes axes,
                           const T* gradient,         // [N, H, W, C], `large`
                           const uint8_t* signs,      // [N, H, W, C / 8], one bit per channel, or null
                           const uint8_t* out_signs,  // [N, h, w, C / 8], one bit per channel, or null
                           float slope,
                           T* out) {  // [N, h, w, C], `small`
  for_row_parts<kCount>(strips_of(small), [&](int64_t slice, int strip, int column, int channel) {
    const int left = axes.columns.readers_begin(column), right = axes.columns.readers_end(column, large.width);
    const int bottom = min((strip + 1) * kAdjointStrip, static_cast<int>(small.height));
    auto along = [&](int i) {
      const int64_t begin = (slice * large.height + i) * large.width * large.channels + channel;
      Channels<kCount> sum = {};
#pragma unroll 5
      for (int j = left; j < right; ++j) {
        const int64_t at = begin + j * large.channels;
        const float weight = axes.columns.at(j).of(column);
        Channels<kCount> c = load<kCount>(gradient + at);
        if constexpr (kSigns) apply_leaky_gradient(c, signs[at / 8], slope);
#pragma unroll
        for (int k = 0; k < kCount; ++k) sum.v[k] = fmaf(weight, c.v[k], sum.v[k]);
      }
      return sum;
    };
    int row = strip * kAdjointStrip;
    Channels<kCount> here = {}, below = {};  // sums of `row` and of the next
    auto put = [&] {
      const int64_t at = ((slice * small.height + row) * small.width + column) * small.channels + channel;
      if (out_signs != nullptr) apply_leaky_gradient(here, out_signs[at / 8], slope);
      store<kCount>(out + at, here);
      here = below, below = {};
      ++row;
    };
    const int end = axes.rows.readers_end(bottom - 1, large.height);
    for (int i = axes.rows.readers_begin(row); i < end; ++i) {
      const Blend<float> rows = axes.rows.at(i);
      if (rows.first >= bottom) break;
      while (rows.first > row) put();
      const Channels<kCount> sum = along(i);
      const float upper = rows.of(row), lower = rows.of(row + 1);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        here.v[k] = fmaf(upper, sum.v[k], here.v[k]);
        below.v[k] = fmaf(lower, sum.v[k], below.v[k]);
      }
    }
    while (row < bottom) put();
  });
}

void activate_cuda(const Tensor& x, std::optional<Tensor> bias, std::optional<Tensor> skip, double negative_slope,
                   const Tensor& signs) {
  const MapShape s = check_activate(x, pointer(bias), pointer(skip), negative_slope, signs);
  if (s.numel() == 0) return;
  const MapChecks check("activate_");
  check.words({{"x", x}});
  if (bias) check.words({{"bias", *bias}});
  if (skip) check.words({{"skip", *skip}});
  const MapShape small = skip ? MapShape{s.count, skip->size(1), skip->size(2), s.channels} : s;
  const Queue queue(x);
  const RowGrid grid = row_grid(s, kChannelsPerThread);
  for_type(x, [&](auto type) {
    using T = decltype(type);
    auto launch = [&](auto kernel) {
      queue.launch(kernel, grid.blocks, grid.threads, 0, s, small, Axes(small, s), mutable_data<T>(x),
                   bias ? data<T>(*bias) : nullptr, skip ? data<T>(*skip) : nullptr, static_cast<float>(negative_slope),
                   mutable_data<uint8_t>(signs));
    };
    if (!skip)
      launch(activate_kernel<T, Skip::kNone>);
    else if (small.height == s.height && small.width == s.width)
      launch(activate_kernel<T, Skip::kSame>);
    else
      launch(activate_kernel<T, Skip::kEnlarged>);
  });
}

void activation_gradient_cuda(const Tensor& gradient, const Tensor& signs, double negative_slope, const Tensor& out) {
  const MapShape s = check_activation_gradient(gradient, signs, negative_slope, out);
  if (s.numel() == 0) return;
  MapChecks("activation_gradient").words({{"gradient", gradient}, {"out", out}});
  const Queue queue(gradient);
  const int64_t bytes = s.numel() / 8;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>((bytes + 255) / 256, 1 << 20));
  for_type(gradient, [&](auto type) {
    using T = decltype(type);
    queue.launch(activation_gradient_kernel<T>, dim3(blocks), dim3(256), 0, bytes, data<T>(gradient),
                 data<uint8_t>(signs), static_cast<float>(negative_slope), mutable_data<T>(out));
  });
}

void enlarge_cuda(const Tensor& x, const Tensor& out) {
  const EnlargeCall call = check_enlarge(x, out);
  if (call.large.numel() == 0) return;
  MapChecks("enlarge").words({{"x", x}, {"out", out}});
  const Queue queue(x);
  for_type(x, [&](auto type) {
    using T = decltype(type);
    auto launch = [&](auto kernel, int64_t count) {
      const RowGrid grid = row_grid(call.large, count);
      queue.launch(kernel, grid.blocks, grid.threads, 0, call.small, call.large, Axes(call.small, call.large),
                   data<T>(x), mutable_data<T>(out));
    };
    call.large.channels % kChannelsPerThread == 0 ? launch(enlarge_kernel<T, kChannelsPerThread>, kChannelsPerThread)
                                                  : launch(enlarge_kernel<T, 1>, 1);
  });
}

void enlarge_adjoint_cuda(const Tensor& gradient, std::optional<Tensor> signs, std::optional<Tensor> out_signs,
                          double negative_slope, const Tensor& out) {
  const EnlargeCall call = check_enlarge_adjoint(gradient, pointer(signs), pointer(out_signs), negative_slope, out);
  if (call.small.numel() == 0) return;
  MapChecks("enlarge_adjoint").words({{"gradient", gradient}, {"out", out}});
  const Queue queue(gradient);
  for_type(gradient, [&](auto type) {
    using T = decltype(type);
    auto launch = [&](auto kernel, int64_t count) {
      const RowGrid grid = row_grid(strips_of(call.small), count);
      queue.launch(kernel, grid.blocks, grid.threads, 0, call.small, call.large, Axes(call.small, call.large),
                   data<T>(gradient), signs ? data<uint8_t>(*signs) : nullptr,
                   out_signs ? data<uint8_t>(*out_signs) : nullptr, static_cast<float>(negative_slope),
                   mutable_data<T>(out));
    };
    if (call.small.channels % kChannelsPerThread != 0)  // there are no signs then
      launch(enlarge_adjoint_kernel<T, 1, false>, 1);
    else if (signs)
      launch(enlarge_adjoint_kernel<T, kChannelsPerThread, true>, kChannelsPerThread);
    else
      launch(enlarge_adjoint_kernel<T, kChannelsPerThread, false>, kChannelsPerThread);
  });
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CUDA, m) {
  m.impl("activate_", TORCH_BOX(&lesioncore::activate_cuda));
  m.impl("activation_gradient", TORCH_BOX(&lesioncore::activation_gradient_cuda));
  m.impl("enlarge", TORCH_BOX(&lesioncore::enlarge_cuda));
  m.impl("enlarge_adjoint", TORCH_BOX(&lesioncore::enlarge_adjoint_cuda));
}
