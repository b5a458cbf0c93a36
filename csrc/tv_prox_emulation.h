// The CUDA tv_prox_ on the host (tv_prox_emulation.cpp), for tests.
#pragma once

#include <cstdint>
#include <vector>

namespace lesioncore {

struct EmulatedProx {
  const float* v;
  const bool* mask;
  const float* weight;  // [stacks]
  float* dual;
  float* out;
  int64_t stacks, depth, height, width;
  double depth_weight;
  bool isotropic;
  int64_t iterations;
  int processors;  // of the device: decides on the size of the tiles
  bool falling;    // order of threads and blocks
};

// Iterations of each launch; 0 stands for that of the result.
std::vector<int> emulate_tv_prox(const EmulatedProx& call);

}  // namespace lesioncore
