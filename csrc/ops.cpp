// Operator schemas. Every volume is contiguous [N, D, H, W]: N independent stacks of D slices.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(lesioncore, m) {
  m.def("tv_gradient(Tensor x, Tensor y, float depth_weight, bool isotropic, float eps, Tensor(a!) out) -> ()");
  m.def("tv_value(Tensor x, Tensor y, float depth_weight, bool isotropic, float eps, Tensor(a!) out) -> ()");
  m.def(
      "restore_step_(Tensor(a!) x, Tensor y, Tensor elbo_gradient, Tensor mask, Tensor step_size, Tensor tv_weight, "
      "Tensor(b!)? out, float clip, float depth_weight, bool isotropic, float eps) -> ()");
  m.def(
      "tv_prox_(Tensor v, Tensor mask, Tensor weight, Tensor(a!) dual, Tensor(b!) out, float depth_weight, "
      "bool isotropic, int iterations) -> ()");

  // Feature maps are contiguous [N, H, W, C]; signs [N, H, W, C / 8] hold one bit for each channel.
  m.def("activate_(Tensor(a!) x, Tensor? bias, Tensor? skip, float negative_slope, Tensor(b!) signs) -> ()");
  m.def("activation_gradient(Tensor gradient, Tensor signs, float negative_slope, Tensor(a!) out) -> ()");
  m.def("enlarge(Tensor x, Tensor(a!) out) -> ()");
  m.def(
      "enlarge_adjoint(Tensor gradient, Tensor? signs, Tensor? out_signs, float negative_slope, Tensor(a!) out) -> ()");
  m.def(
      "convolve(Tensor x, Tensor? signs, Tensor weight, Tensor? bias, Tensor? skip, int stride, "
      "float negative_slope, Tensor(a!) out, Tensor(b!)? out_signs) -> ()");
  m.def("convolve_down_adjoint(Tensor gradient, Tensor weight, Tensor(a!) out) -> ()");

  // Random numbers: a stream is a row of `streams` [N, 2], its seed and the number of the call.
  m.def("normal(Tensor streams, Tensor(a!) out) -> ()");
}
