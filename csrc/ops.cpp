// Operator schemas, nothing else. Every volume is contiguous [N, D, H, W]: N independent stacks of D slices.
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
}
