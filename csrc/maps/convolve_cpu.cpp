// convolve, a 3 x 3 convolution with what surrounds it in a residual block, and convolve_down_adjoint, the gradient of
// the input of one of stride 2, on the CPU. The CUDA twin is convolve_cuda.cu.
//
// They are direct sums for any number of channels, which define what the operators mean; networks on the CPU use
// oneDNN, which is faster.
#include <torch/csrc/stable/library.h>

#include <memory>

#include "maps/maps_cpu.h"

namespace lesioncore {
namespace {

// The arguments of a convolution, I channels to O, and how one row of the result is computed.
template <typename T>
struct Convolution {
  const T* x;            // [N, H, W, I] as in call.x
  const T* weight;       // [O, 3, 3, I]
  const T* bias;         // [O] or null
  const T* skip;         // [N, H, W, O] as in call.skip, or null
  const uint8_t* signs;  // [N, H, W, I / 8] as in call.x, one bit per channel, or null
  T slope;
  T* out;              // [N, H, W, O] as in call.out
  uint8_t* out_signs;  // [N, H, W, O / 8] as in call.out, one bit per channel, or null
  ConvolveCall call;
  int64_t stride;

  // Reads a row of the input, which is enlarged or taken through an activation's gradient first.
  void read_row(int64_t slice, int64_t row,
                T* to) const {  // [width, I]
    const MapShape &s = call.x, &o = call.out;
    if (call.enlarges) {
      const EnlargedRow<T> enlarged(x, s, o, slice, row);
      for (int64_t column = 0; column < o.width; ++column) {
        const Blend<T> columns = enlarged.columns(column);
        for (int64_t c = 0; c < s.channels; ++c) *to++ = enlarged.at(columns, c);
      }
      return;
    }
    const int64_t begin = (slice * s.height + row) * s.width * s.channels, size = s.width * s.channels;
    for (int64_t i = begin; i < begin + size; ++i)
      *to++ = signs == nullptr ? x[i] : leaky_gradient(x[i], signs[i / 8] >> (i % 8) & 1, slope);
  }

  void row(int64_t slice, int64_t row) const {
    const MapShape& o = call.out;
    const int64_t inputs = call.x.channels, border = stride == 1 ? 1 : 0;
    const int64_t width = stride == 1 ? o.width : call.x.width, height = stride == 1 ? o.height : call.x.height;
    const int64_t row_size = width * inputs, above = row * stride - border;
    auto rows = std::make_unique<T[]>(3 * row_size);  // zero beyond the image
    for (int64_t dy = 0; dy < 3; ++dy)
      if (above + dy >= 0 && above + dy < height) read_row(slice, above + dy, rows.get() + dy * row_size);
    const EnlargedRow<T> skipped(skip, call.skip, o, slice, row);
    for (int64_t column = 0; column < o.width; ++column) {
      const int64_t pixel = (slice * o.height + row) * o.width + column;
      const Blend<T> columns = skipped.columns(column);
      for (int64_t c = 0; c < o.channels; ++c) {
        T sum = bias == nullptr ? T(0) : bias[c];
        if (skip != nullptr) sum += skipped.at(columns, c);
        for (int64_t tap = 0; tap < kTaps; ++tap) {
          const int64_t from = column * stride + tap % 3 - border;
          if (from < 0 || from >= width) continue;
          const T* values = rows.get() + tap / 3 * row_size + from * inputs;
          const T* weights = weight + (c * kTaps + tap) * inputs;
          for (int64_t i = 0; i < inputs; ++i) sum += values[i] * weights[i];
        }
        if (out_signs != nullptr) {
          uint8_t& byte = out_signs[pixel * (o.channels / 8) + c / 8];
          byte = static_cast<uint8_t>((c % 8 == 0 ? 0 : byte) | (sum > T(0)) << (c % 8));
          sum = leaky(sum, slope);
        }
        out[pixel * o.channels + c] = sum;
      }
    }
  }
};

void convolve_cpu(const Tensor& x, std::optional<Tensor> signs, const Tensor& weight, std::optional<Tensor> bias,
                  std::optional<Tensor> skip, int64_t stride, double negative_slope, const Tensor& out,
                  std::optional<Tensor> out_signs) {
  const ConvolveCall call = check_convolve(x, pointer(signs), weight, pointer(bias), pointer(skip), stride,
                                           negative_slope, out, pointer(out_signs));
  for_element_type(x, [&](auto zero) {
    using T = decltype(zero);
    const Convolution<T> convolution{data<T>(x),
                                     data<T>(weight),
                                     bias ? data<T>(*bias) : nullptr,
                                     skip ? data<T>(*skip) : nullptr,
                                     signs ? data<uint8_t>(*signs) : nullptr,
                                     static_cast<T>(negative_slope),
                                     mutable_data<T>(out),
                                     out_signs ? mutable_data<uint8_t>(*out_signs) : nullptr,
                                     call,
                                     stride};
    for_rows(call.out, [&](int64_t slice, int64_t row) { convolution.row(slice, row); });
  });
}

void convolve_down_adjoint_cpu(const Tensor& gradient, const Tensor& weight, const Tensor& out) {
  const ConvolveCall call = check_convolve_down_adjoint(gradient, weight, out);
  const MapShape g = call.x, o = call.out;
  for_element_type(gradient, [&](auto zero) {
    using T = decltype(zero);
    const T *values = data<T>(gradient), *weights = data<T>(weight);
    T* result = mutable_data<T>(out);
    for_rows(o, [&](int64_t slice, int64_t row) {
      T* pixel = result + (slice * o.height + row) * o.width * o.channels;
      std::fill(pixel, pixel + o.width * o.channels, T(0));
      for (int64_t column = 0; column < o.width; ++column, pixel += o.channels) {
        for (int64_t tap = 0; tap < kTaps; ++tap) {
          const int64_t y = row - tap / 3, x = column - tap % 3;
          if (y < 0 || x < 0 || y % 2 != 0 || x % 2 != 0 || y / 2 >= g.height || x / 2 >= g.width) continue;
          const T* from = values + ((slice * g.height + y / 2) * g.width + x / 2) * g.channels;
          for (int64_t c = 0; c < g.channels; ++c)
            for (int64_t i = 0; i < o.channels; ++i) pixel[i] += from[c] * weights[(c * kTaps + tap) * o.channels + i];
        }
      }
    });
  });
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CPU, m) {
  m.impl("convolve", TORCH_BOX(&lesioncore::convolve_cpu));
  m.impl("convolve_down_adjoint", TORCH_BOX(&lesioncore::convolve_down_adjoint_cpu));
}
