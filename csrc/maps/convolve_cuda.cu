// convolve, a 3 x 3 convolution with what surrounds it in a residual block, and convolve_down_adjoint, the gradient of
// the input of one of stride 2, on CUDA, for few channels, where cuDNN is far from the memory's speed. The CPU twin is
// convolve_cpu.cpp.
//
// This file chooses among the kernels: from one channel and to one in float32 (convolve_one_channel.cuh), and for 16
// and 32 channels on tensor cores (convolve_strip_same.cuh, convolve_strip_down.cuh, convolve_strip_down_adjoint.cuh).
#include <torch/csrc/stable/library.h>

#include "maps/convolve_one_channel.cuh"
#include "maps/convolve_strip_down.cuh"
#include "maps/convolve_strip_down_adjoint.cuh"
#include "maps/convolve_strip_same.cuh"

namespace lesioncore {
namespace {

void convolve_cuda(const Tensor& x, std::optional<Tensor> signs, const Tensor& weight, std::optional<Tensor> bias,
                   std::optional<Tensor> skip, int64_t stride, double negative_slope, const Tensor& out,
                   std::optional<Tensor> out_signs) {
  const ConvolveCall call = check_convolve(x, pointer(signs), weight, pointer(bias), pointer(skip), stride,
                                           negative_slope, out, pointer(out_signs));
  const int64_t inputs = call.x.channels, outputs = call.out.channels;
  const MapChecks check("convolve");
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
  check.words({{"x", x}, {"out", out}});
  if (bias) check.words({{"bias", *bias}});
  if (skip) check.words({{"skip", *skip}});
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
      convolve_from_one(a, queue);
    else if (to)
      convolve_to_one(a, queue);
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
  MapChecks("convolve_down_adjoint").words({{"gradient", gradient}, {"out", out}});
  const Queue queue(gradient);
  if (call.x.numel() == 0) {  // the kernel reads at least one row and column; the bits of 0.0 are 0 in both types
    const auto bytes = static_cast<size_t>(out.numel()) * out.element_size();
    STD_CUDA_CHECK(cudaMemsetAsync(out.mutable_data_ptr(), 0, bytes, queue.stream()));
    return;
  }
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
