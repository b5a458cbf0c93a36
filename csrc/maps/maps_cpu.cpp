// activate_, activation_gradient, enlarge, enlarge_adjoint on the CPU: the operators between the convolutions of a
// network. Formulas in maps.h; the CUDA twin is maps_cuda.cu.
//
// Thread map: threads take ranges of rows of the map that is written; the channels of a pixel are the inner loop.
#include "maps/maps_cpu.h"

#include <torch/csrc/stable/library.h>

namespace lesioncore {
namespace {

void activate_cpu(const Tensor& x, std::optional<Tensor> bias, std::optional<Tensor> skip, double negative_slope,
                  const Tensor& signs) {
  const MapShape s = check_activate(x, pointer(bias), pointer(skip), negative_slope, signs);
  for_element_type(x, [&](auto zero) {
    using T = decltype(zero);
    T* values = mutable_data<T>(x);
    uint8_t* bits = mutable_data<uint8_t>(signs);
    const T* added = bias ? data<T>(*bias) : nullptr;
    const T* map = skip ? data<T>(*skip) : nullptr;
    const T slope = static_cast<T>(negative_slope);
    const MapShape small = skip ? MapShape{s.count, skip->size(1), skip->size(2), s.channels} : s;
    for_rows(s, [&](int64_t slice, int64_t row) {
      const EnlargedRow<T> skipped(map, small, s, slice, row);
      for (int64_t column = 0; column < s.width; ++column) {
        const int64_t pixel = (slice * s.height + row) * s.width + column;
        const Blend<T> columns = skipped.columns(column);
        for (int64_t group = 0; group < s.channels / 8; ++group) {
          unsigned byte = 0;
          for (int64_t c = group * 8; c < group * 8 + 8; ++c) {
            T& value = values[pixel * s.channels + c];
            if (added != nullptr) value += added[c];
            if (map != nullptr) value += skipped.at(columns, c);
            byte |= static_cast<unsigned>(value > T(0)) << (c % 8);
            value = leaky(value, slope);
          }
          bits[pixel * (s.channels / 8) + group] = static_cast<uint8_t>(byte);
        }
      }
    });
  });
}

void activation_gradient_cpu(const Tensor& gradient, const Tensor& signs, double negative_slope, const Tensor& out) {
  const MapShape s = check_activation_gradient(gradient, signs, negative_slope, out);
  for_element_type(gradient, [&](auto zero) {
    using T = decltype(zero);
    const T* values = data<T>(gradient);
    const uint8_t* bits = data<uint8_t>(signs);
    T* result = mutable_data<T>(out);
    const int64_t row_size = s.width * s.channels;
    for_rows(s, [&](int64_t slice, int64_t row) {
      const int64_t begin = (slice * s.height + row) * row_size;
      for (int64_t i = begin; i < begin + row_size; ++i)
        result[i] = leaky_gradient(values[i], bits[i / 8] >> (i % 8) & 1, static_cast<T>(negative_slope));
    });
  });
}

void enlarge_cpu(const Tensor& x, const Tensor& out) {
  const EnlargeCall call = check_enlarge(x, out);
  const MapShape s = call.large;
  for_element_type(x, [&](auto zero) {
    using T = decltype(zero);
    const T* values = data<T>(x);
    T* result = mutable_data<T>(out);
    for_rows(s, [&](int64_t slice, int64_t row) {
      const EnlargedRow<T> enlarged(values, call.small, s, slice, row);
      T* pixel = result + (slice * s.height + row) * s.width * s.channels;
      for (int64_t column = 0; column < s.width; ++column, pixel += s.channels) {
        const Blend<T> columns = enlarged.columns(column);
        for (int64_t c = 0; c < s.channels; ++c) pixel[c] = enlarged.at(columns, c);
      }
    });
  });
}

void enlarge_adjoint_cpu(const Tensor& gradient, std::optional<Tensor> signs, std::optional<Tensor> out_signs,
                         double negative_slope, const Tensor& out) {
  const EnlargeCall call = check_enlarge_adjoint(gradient, pointer(signs), pointer(out_signs), negative_slope, out);
  const MapShape small = call.small, large = call.large;
  for_element_type(gradient, [&](auto zero) {
    using T = decltype(zero);
    const T* values = data<T>(gradient);
    const uint8_t* bits = signs ? data<uint8_t>(*signs) : nullptr;
    const uint8_t* out_bits = out_signs ? data<uint8_t>(*out_signs) : nullptr;
    T* result = mutable_data<T>(out);
    const T slope = static_cast<T>(negative_slope);
    const int height = static_cast<int>(large.height), width = static_cast<int>(large.width);
    const Axis<T> rows(small.height, height), columns(small.width, width);
    const int64_t channels = small.channels;
    for_rows(small, [&](int64_t slice, int64_t small_row) {
      const int row = static_cast<int>(small_row);
      for (int column = 0; column < columns.small; ++column) {
        const int64_t target = (slice * rows.small + row) * columns.small + column;
        T* sum = result + target * channels;
        std::fill(sum, sum + channels, T(0));
        for (int i = rows.readers_begin(row); i < rows.readers_end(row, height); ++i) {
          for (int j = columns.readers_begin(column); j < columns.readers_end(column, width); ++j) {
            const T weight = rows.at(i).of(row) * columns.at(j).of(column);
            const int64_t pixel = (slice * height + i) * width + j;
            for (int64_t c = 0; c < channels; ++c) {
              const T value = values[pixel * channels + c];
              sum[c] +=
                  weight * (bits == nullptr ? value : leaky_gradient(value, positive(bits, pixel, c, channels), slope));
            }
          }
        }
        if (out_bits == nullptr) continue;
        for (int64_t c = 0; c < channels; ++c)
          sum[c] = leaky_gradient(sum[c], positive(out_bits, target, c, channels), slope);
      }
    });
  });
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CPU, m) {
  m.impl("activate_", TORCH_BOX(&lesioncore::activate_cpu));
  m.impl("activation_gradient", TORCH_BOX(&lesioncore::activation_gradient_cpu));
  m.impl("enlarge", TORCH_BOX(&lesioncore::enlarge_cpu));
  m.impl("enlarge_adjoint", TORCH_BOX(&lesioncore::enlarge_adjoint_cpu));
}
