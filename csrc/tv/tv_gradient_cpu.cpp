// tv_gradient: out = K^T f(K (x - y)); tv_value: out[n] = sum over stack n of tv_term(K (x - y)). Formulas in tv.h.
//
// Boundary: differences across the far edge of an axis are zero, no wrap-around.
// Thread map: for the gradient see sweep_cpu.h. For the value, threads take contiguous ranges of rows; each row is
// summed on its own and the rows of a stack are added in order afterwards, so that the result has the same bits
// whatever the number of threads.
// Bytes per pixel (float32): gradient 8 read + 4 written; value 8 read.
#include <torch/csrc/stable/library.h>

#include "element_type_cpu.h"
#include "tv/sweep_cpu.h"
#include "tv/tv_checks.h"

namespace lesioncore {
namespace {

template <typename T>
Volume<T> volume_of(const Tensor& x, const Tensor& y, const Shape& s, bool coupled) {
  return coupled ? Volume<T>{data<T>(x), data<T>(y), s.stacks, s.depth, s.height, s.width}
                 : Volume<T>{data<T>(x), data<T>(y), s.stacks * s.depth, 1, s.height, s.width};
}

void tv_gradient_cpu(const Tensor& x, const Tensor& y, double depth_weight, bool isotropic, double eps,
                     const Tensor& out) {
  const Shape shape = check_tv_gradient(x, y, depth_weight, isotropic, eps, out);
  if (shape.numel() == 0) return;
  for_element_type(x, [&](auto zero) {
    using T = decltype(zero);
    const TvParams<T> tv = tv_params<T>(shape, depth_weight, isotropic, eps);
    const RowKernels<T>& kernels = row_kernels<T>();
    T* gradient = mutable_data<T>(out);
    Sweep<T>(volume_of<T>(x, y, shape, tv.coupled), tv, false)
        .run([&](int64_t, int64_t row, const PaddedFieldRows<T>& field) {
          kernels.gradient(tv, field, gradient + row, shape.width);
        });
  });
}

void tv_value_cpu(const Tensor& x, const Tensor& y, double depth_weight, bool isotropic, double eps,
                  const Tensor& out) {
  const Shape shape = check_tv_value(x, y, depth_weight, isotropic, eps, out);
  for_element_type(x, [&](auto zero) {
    using T = decltype(zero);
    const TvParams<T> tv = tv_params<T>(shape, depth_weight, isotropic, eps);
    const RowKernels<T>& kernels = row_kernels<T>();
    const T *x_data = data<T>(x), *y_data = data<T>(y);
    const int64_t width = shape.width, height = shape.height, rows_per_stack = shape.depth * height;
    const int64_t rows = width == 0 ? 0 : shape.stacks * rows_per_stack;
    auto sums = uninitialised<double>(rows);

    torch::stable::parallel_for(
        0, rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1)), [&](int64_t begin, int64_t end) {
          auto scratch = uninitialised<T>(3 * width);
          T *z = scratch.get(), *z_row = z + width, *z_slice = z_row + width;
          auto difference = [&](int64_t row, T* z_out) {
            kernels.difference(x_data + row * width, y_data + row * width, z_out, width);
          };
          difference(begin, z);
          for (int64_t row = begin; row < end; ++row) {
            const bool has_row = row % height + 1 < height;
            const bool has_slice = tv.coupled && row % rows_per_stack / height + 1 < shape.depth;
            if (row + 1 < rows)
              difference(row + 1, z_row);  // becomes z; at the end of a slice it is the next slice's first row
            if (has_slice) difference(row + height, z_slice);
            sums[row] = kernels.value(tv, z, has_row ? z_row : z, has_slice ? z_slice : z, width);
            std::swap(z, z_row);
          }
        });
    T* values = mutable_data<T>(out);
    for (int64_t n = 0; n < shape.stacks; ++n) {
      double sum = 0.0;
      for (int64_t row = 0; rows > 0 && row < rows_per_stack; ++row) sum += sums[n * rows_per_stack + row];
      values[n] = static_cast<T>(sum);
    }
  });
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CPU, m) {
  m.impl("tv_gradient", TORCH_BOX(&lesioncore::tv_gradient_cpu));
  m.impl("tv_value", TORCH_BOX(&lesioncore::tv_value_cpu));
}
