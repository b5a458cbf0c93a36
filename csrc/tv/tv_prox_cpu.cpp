// tv_prox_: out = argmin_D 1/2 |D - v|^2 + weight[n] TV(D) subject to D = 0 outside the mask, by accelerated projected
// gradient on the dual (FGP: Beck & Teboulle, IEEE TIP 2009):
//   D(q) = mask * (v - weight K^T q),  p' = project(q + K D(q) / (L weight)),  q' = p' + momentum (p' - p).
//
// Boundary: differences across the far edge of an axis are zero, no wrap-around; the dual is kept at zero there.
// Storage: `dual` holds p and scratch memory the previous p. The new p overwrites the previous one, then the two change
// places. q is formed on the fly. `out` holds D(q) and, after the last iteration, D(p).
// Thread map: a task is one stack, and runs all its iterations one after another so that the stack stays in cache; the
// row of D below (of the slice behind) is computed just before the row of p that needs it. If there are fewer stacks
// than threads and they are big, threads share a stack: they compute all rows of D, then all rows of p. Both orders,
// and any number of threads, give the same bits.
// Bytes per pixel and iteration (float32, 2-D), from cache: 29 read + 12 written.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>

#include "element_type_cpu.h"
#include "tv/sweep_cpu.h"
#include "tv/tv_checks.h"

namespace lesioncore {
namespace {

constexpr int64_t kSharedStack = 1 << 16;  // pixels: below that starting the threads costs more than they bring

template <typename T>
struct ProxStack {
  const T* v;           // [depth, height, width]
  const uint8_t* mask;  // [depth, height, width]
  T* out;               // [depth, height, width]
  T* p[3];              // components of the dual of this stack, [depth, height, width] each; two if uncoupled
  T* before[3];         // the same of the previous iteration
  int64_t depth, height, width;
  double weight;
  const T* zeros;  // [width]

  int64_t rows() const { return depth * height; }
};

template <typename T>
class ProxSolver {
 public:
  ProxSolver(const TvParams<T>& tv, const ProxStack<T>& stack) : tv_(tv), kernels_(row_kernels<T>()), s_(stack) {}

  template <typename ForRows>  // for_rows(f) calls f(begin, end) for all rows, in one or several threads
  void run(int64_t iterations, bool shared, const ForRows& for_rows) {
    clear_far_edges();
    T *caller[3] = {s_.p[0], s_.p[1], s_.p[2]}, *scratch[3] = {s_.before[0], s_.before[1], s_.before[2]};
    double t = 1.0, momentum = 0.0;
    const T step = static_cast<T>(dual_step(s_.weight, static_cast<double>(tv_.depth_weight) * tv_.coupled));
    for (int64_t k = 0; k < iterations; ++k) {
      // Nothing precedes the first iteration: its momentum is 0 and p stands in for the scratch, which may hold NaN.
      T* const* before = k == 0 ? s_.p : s_.before;
      const T m = static_cast<T>(momentum);
      if (shared) {
        for_rows([&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) primal(row, before, m);
        });
        for_rows([&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) dual(row, before, m, step);
        });
      } else {
        sweep(before, m, step);
      }
      momentum = next_momentum(t);
      for (int c = 0; c < 3; ++c) std::swap(s_.p[c], s_.before[c]);
    }
    for_rows([&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) primal(row, s_.p, T(0));
    });
    if (s_.p[0] != caller[0])
      for (int c = 0; c < components(); ++c) std::copy_n(scratch[c], s_.rows() * s_.width, caller[c]);
  }

 private:
  int components() const { return tv_.coupled ? 3 : 2; }
  int64_t ahead() const { return tv_.coupled ? s_.height : 1; }  // how far D must be ahead of p, in rows

  // D is computed `ahead` rows before p is updated: from then on no later row of D needs that row of the previous p.
  void sweep(T* const* before, T momentum, T step) {
    int64_t made = 0;
    for (int64_t row = 0; row < s_.rows(); ++row) {
      for (int64_t needed = std::min(row + ahead() + 1, s_.rows()); made < needed; ++made)
        primal(made, before, momentum);
      dual(row, before, momentum, step);
    }
  }

  FieldRows<T> rows_around(T* const* field, int64_t row) const {
    const int64_t w = s_.width, i = row % s_.height, d = row / s_.height;
    FieldRows<T> rows{field[0] + row * w, i > 0 ? field[1] + (row - 1) * w : s_.zeros, field[1] + row * w, nullptr,
                      nullptr};
    if (tv_.coupled) {
      rows.z = field[2] + row * w;
      rows.z_before = d > 0 ? field[2] + (row - s_.height) * w : s_.zeros;
    }
    return rows;
  }

  void primal(int64_t row, T* const* before, T momentum) const {
    const int64_t o = row * s_.width;
    kernels_.primal(tv_, rows_around(s_.p, row), rows_around(before, row), s_.v + o, s_.mask + o,
                    static_cast<T>(s_.weight), momentum, s_.out + o, s_.width);
  }

  void dual(int64_t row, T* const* before, T momentum, T step) const {
    const int64_t w = s_.width, o = row * w;
    const T* d = s_.out + o;
    const T* d_row = row % s_.height + 1 < s_.height ? d + w : d;
    const T* d_slice = tv_.coupled && row / s_.height + 1 < s_.depth ? d + s_.height * w : d;
    kernels_.dual(tv_, d, d_row, d_slice, rows_around(s_.p, row), rows_around(before, row), momentum, step,
                  s_.before[0] + o, s_.before[1] + o, tv_.coupled ? s_.before[2] + o : nullptr, w);
  }

  // A dual made elsewhere may hold anything where no difference exists; from zero these entries stay zero.
  void clear_far_edges() {
    const int64_t w = s_.width, h = s_.height;
    for (int64_t row = 0; row < s_.rows(); ++row) s_.p[0][row * w + w - 1] = T(0);
    for (int64_t d = 0; d < s_.depth; ++d) std::fill_n(s_.p[1] + (d * h + h - 1) * w, w, T(0));
    if (tv_.coupled) std::fill_n(s_.p[2] + (s_.depth - 1) * h * w, h * w, T(0));
  }

  TvParams<T> tv_;
  const RowKernels<T>& kernels_;
  ProxStack<T> s_;
};

// weight 0: out = mask * v, and a dual of zero.
template <typename T>
void without_tv(const ProxStack<T>& s, int components) {
  for (int64_t i = 0; i < s.rows() * s.width; ++i) s.out[i] = s.mask[i] != 0 ? s.v[i] : T(0);
  for (int c = 0; c < components; ++c) std::fill_n(s.p[c], s.rows() * s.width, T(0));
}

void tv_prox_cpu(const Tensor& v, const Tensor& mask, const Tensor& weight, const Tensor& dual, const Tensor& out,
                 double depth_weight, bool isotropic, int64_t iterations) {
  const TvProxCall call = check_tv_prox(v, mask, weight, dual, out, depth_weight, iterations);
  const Shape shape = call.shape;
  for_element_type(v, [&](auto zero) {
    using T = decltype(zero);
    const TvParams<T> tv{static_cast<T>(depth_weight), T(0), isotropic, call.coupled};
    const T* weights = data<T>(weight);
    for (int64_t i = 0; i < weight.numel(); ++i)
      if (!(weights[i] >= T(0)) || !std::isfinite(weights[i]))
        Checks("tv_prox_").fail("weight", "holds ", weights[i], " at index ", i, ", expected finite numbers >= 0");
    if (shape.numel() == 0) return;

    // Uncoupled slices are stacks of their own: smaller ones stay in cache, and there are more to share out.
    const int64_t per_n = call.coupled ? 1 : shape.depth, stacks = shape.stacks * per_n;
    const int64_t depth = shape.depth / per_n, size = depth * shape.slice(), rows = depth * shape.height;
    const int components = call.coupled ? 3 : 2;
    T *dual_data = mutable_data<T>(dual), *out_data = mutable_data<T>(out);
    const auto zeros = std::make_unique<T[]>(static_cast<size_t>(shape.width));

    auto solve = [&](int64_t n, T* scratch, bool shared, const auto& for_rows) {
      ProxStack<T> s{data<T>(v) + n * size,
                     data<uint8_t>(mask) + n * size,
                     out_data + n * size,
                     {},
                     {},
                     depth,
                     shape.height,
                     shape.width,
                     static_cast<double>(weights[n / per_n * call.weight_stride]),
                     zeros.get()};
      for (int c = 0; c < components; ++c) {
        s.p[c] = dual_data + (c * stacks + n) * size;
        s.before[c] = scratch + c * size;
      }
      if (s.weight == 0.0)
        without_tv(s, components);
      else
        ProxSolver<T>(tv, s).run(iterations, shared, for_rows);
    };

    const int64_t threads = torch::stable::get_num_threads();
    if (stacks < threads && size >= kSharedStack) {
      auto scratch = uninitialised<T>(components * size);
      for (int64_t n = 0; n < stacks; ++n)
        solve(n, scratch.get(), true, [&](const auto& f) { torch::stable::parallel_for(0, rows, 1, f); });
    } else {
      torch::stable::parallel_for(0, stacks, 1, [&](int64_t begin, int64_t end) {
        auto scratch = uninitialised<T>(components * size);
        for (int64_t n = begin; n < end; ++n) solve(n, scratch.get(), false, [&](const auto& f) { f(0, rows); });
      });
    }
  });
}

}  // namespace
}  // namespace lesioncore

STABLE_TORCH_LIBRARY_IMPL(lesioncore, CPU, m) {
  m.impl("tv_prox_", TORCH_BOX(&lesioncore::tv_prox_cpu));
}
