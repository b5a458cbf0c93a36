// Arguments of the CUDA kernels of `convolve` and `convolve_down_adjoint`, and the choice among their variants.
#pragma once

#include <cstdint>
#include <type_traits>

#include "maps/maps_cuda.cuh"

namespace lesioncore {

// I channels of the input, O of the result. For the adjoint, the input is the gradient of the convolution's result.
template <typename T>
struct ConvolveArguments {
  MapShape x, skip, out;
  Axes axes, skip_axes;  // how x and skip are enlarged to out
  const T* input;        // [N, H, W, I] as in `x`
  const T* weight;       // [O, 3, 3, I]; for the adjoint [I, 3, 3, O]
  const T* bias;         // [O] or null
  const T* skipped;      // [N, H, W, O] as in `skip`, or null
  const uint8_t* signs;  // [N, H, W, I / 8] as in `x`, one bit per channel, or null
  float slope;           // of the leaky-ReLUs of `signs` and `out_signs`
  T* result;             // [N, H, W, O] as in `out`
  uint8_t* out_signs;    // [N, H, W, O / 8] as in `out`, one bit per channel, or null
};

// What happens to the input before it is multiplied: nothing, the gradient of a leaky-ReLU, or enlargement.
enum class InputStage { kPlain, kSigns, kEnlarged };

template <InputStage kInput>
using InputConstant = std::integral_constant<InputStage, kInput>;

template <Skip kSkip>
using SkipConstant = std::integral_constant<Skip, kSkip>;

// Calls launch(activate) with a compile-time constant.
template <typename T, typename F>
void for_activation(const ConvolveArguments<T>& a, const F& launch) {
  a.out_signs != nullptr ? launch(std::true_type{}) : launch(std::false_type{});
}

}  // namespace lesioncore
