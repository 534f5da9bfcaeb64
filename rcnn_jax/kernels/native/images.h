// What happens to the pixels of an image between two convolutions: normalization, rectification,
// their gradients and the sums of batch normalization. A pixel is a row of `channels` floats,
// a multiple of 16. NaN stays NaN through every function.
#pragma once

#include "vector.h"

namespace RCNN_ISA {

// Numbers of a channel that undo or apply batch normalization, as rows [kind][channels].
enum NormRow { kMean, kFactor, kBias, kNormRows };
enum GradientRow { kScale = kNormRows, kSlope, kShift, kGradientRows };

static inline Vec positive(Vec value) { return value < 0.0f ? Vec{} : value; }

static inline Vec normal(Vec z, const float* norm, int64_t channels, int64_t c) {
  return (z - load(norm + kMean * channels + c)) * load(norm + kFactor * channels + c) +
         load(norm + kBias * channels + c);
}

// x = relu((z - mean) factor + bias)
static void normalize(const float* z, const float* norm, int64_t pixels, int64_t channels,
                      float* x) {
  for (int64_t p = 0; p < pixels; ++p, z += channels, x += channels) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      store(x + c, positive(normal(load(z + c), norm, channels, c)));
    }
  }
}

// The gradient with respect to z of `normalize`, whose mean and factor depend on z:
//   scale g [x > 0] + slope (z - mean) + shift
static void normalize_gradient(const float* g, const float* z, const float* norm, int64_t pixels,
                               int64_t channels, float* out) {
  for (int64_t p = 0; p < pixels; ++p, g += channels, z += channels, out += channels) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      const Vec value = load(z + c);
      const Vec through = normal(value, norm, channels, c) > 0.0f ? load(g + c) : Vec{};
      store(out + c, load(norm + kScale * channels + c) * through +
                         (load(norm + kSlope * channels + c) *
                              (value - load(norm + kMean * channels + c)) +
                          load(norm + kShift * channels + c)));
    }
  }
}

// Pixels whose sum is taken before it is added to the sum of all: errors grow with the root of both
// numbers.
constexpr int64_t kRun = 64;
constexpr int kAtOnce = 4;  // vectors of channels

// The sums over all pixels of the two numbers that `terms(p, c)` returns for a vector of channels.
template <int WIDE, typename Terms>
static inline void two_sums(int64_t pixels, int64_t c, float* first, float* second, Terms terms) {
  Vec total[WIDE] = {}, total2[WIDE] = {};
  for (int64_t begin = 0; begin < pixels; begin += kRun) {
    const int64_t end = begin + kRun < pixels ? begin + kRun : pixels;
    Vec sum[WIDE] = {}, sum2[WIDE] = {};
    for (int64_t p = begin; p < end; ++p) {
      for (int v = 0; v < WIDE; ++v) terms(p, c + v * kLanes, sum[v], sum2[v]);
    }
    for (int v = 0; v < WIDE; ++v) total[v] += sum[v], total2[v] += sum2[v];
  }
  for (int v = 0; v < WIDE; ++v) {
    if (first) store(first + c + v * kLanes, total[v]);
    store(second + c + v * kLanes, total2[v]);
  }
}

template <typename Terms>
static inline void two_sums_of_all(int64_t pixels, int64_t channels, float* first, float* second,
                                   Terms terms) {
  int64_t c = 0;
  for (; c + kAtOnce * kLanes <= channels; c += kAtOnce * kLanes) {
    two_sums<kAtOnce>(pixels, c, first, second, terms);
  }
  for (; c < channels; c += kLanes) two_sums<1>(pixels, c, first, second, terms);
}

// The mean of each channel over the pixels of one image, and the sum of the squared distances from
// it: moments[0][channels], moments[1][channels].
static void image_moments(const float* z, int64_t pixels, int64_t channels, float* moments) {
  float *mean = moments, *spread = moments + channels;
  two_sums_of_all(pixels, channels, nullptr, mean, [&](int64_t p, int64_t c, Vec&, Vec& sum) {
    sum += load(z + p * channels + c);
  });
  const float share = 1.0f / static_cast<float>(pixels);
  for (int64_t c = 0; c < channels; c += kLanes) store(mean + c, share * load(mean + c));
  two_sums_of_all(pixels, channels, nullptr, spread, [&](int64_t p, int64_t c, Vec&, Vec& sum) {
    const Vec centred = load(z + p * channels + c) - load(mean + c);
    sum += centred * centred;
  });
}

// The sums of g [x > 0] and of g [x > 0] (z - mean) over the pixels of one image.
static void image_gradient_sums(const float* g, const float* z, const float* norm, int64_t pixels,
                                int64_t channels, float* sums) {
  two_sums_of_all(pixels, channels, sums, sums + channels,
                  [&](int64_t p, int64_t c, Vec& sum, Vec& sum2) {
                    const Vec value = load(z + p * channels + c);
                    const Vec through = normal(value, norm, channels, c) > 0.0f
                                            ? load(g + p * channels + c)
                                            : Vec{};
                    sum += through;
                    sum2 += through * (value - load(norm + kMean * channels + c));
                  });
}

}  // namespace RCNN_ISA
