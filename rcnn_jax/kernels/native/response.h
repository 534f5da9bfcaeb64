// Local response normalization across channels, after a bias and a rectification.
#pragma once

#include "images.h"
#include "shapes.h"

namespace RCNN_ISA {

// Pixels that are normalized at a time, so that no sum is read while it is being written.
constexpr int kPixels = 8;

// Floats of a row of values that are summed: a window of zeros on both sides of the channels, and
// room for the vectors that begin inside.
static inline int64_t response_row(const ResponseShape& s) {
  return (s.channels + 2 * s.size + 2 * 16 + 15) / 16 * 16;
}

// Sums channels k - before .. k + after of each pixel. `values` holds kPixels rows of `row` floats
// whose channels begin at `size`, zeros around them, and is overwritten. Windows of 1, 2, 4, ...
// channels are built by doubling and joined.
static void window_sums(const ResponseShape& s, int before, int after, int64_t row, float* values,
                        float* sums) {
  const int width = before + 1 + after;
  const int64_t start = s.size - before;
  // Sums of this width that are already covered begin `covered` channels later.
  int64_t covered = 0;
  bool first = true;
  for (int block = 1, left = width; left > 0; left >>= 1, block <<= 1) {
    if (left & 1) {
      for (int p = 0; p < kPixels; ++p) {
        const float* from = values + p * row + start + covered;
        float* to = sums + p * s.channels;
        if (first) {
          for (int64_t c = 0; c < s.channels; c += kLanes) store(to + c, load(from + c));
        } else {
          for (int64_t c = 0; c < s.channels; c += kLanes) store(to + c, load(to + c) + load(from + c));
        }
      }
      first = false;
      covered += block;
    }
    if (left > 1) {
      for (int p = 0; p < kPixels; ++p) {
        float* of = values + p * row;
        // Ascending: what is read beyond a vector is not yet overwritten.
        for (int64_t c = 0; c + block + kLanes <= row; c += kLanes) {
          store(of + c, load(of + c) + load(of + c + block));
        }
      }
    }
  }
}

// d ** -exponent for exponent = quarters / 4
static inline Vec power(Vec root, int quarters) {
  Vec result = root;
  for (int n = 1; n < quarters; ++n) result *= root;
  return result;
}

// The square root of the reciprocal root of k + alpha / size times a sum of squares.
static inline Vec fourth_root(const ResponseShape& s, Vec squares) {
  const Vec d = s.k + (s.alpha / static_cast<float>(s.size)) * squares;
  return square_root(1.0f / square_root(d));
}

// What is normalized.
static inline Vec activity(const ResponseShape& s, Vec z) { return s.rectify ? positive(z) : z; }

// x = a d^-beta, where a = relu(z + bias), or z + bias, and d = k + alpha / size sum of a^2 over the window.
static void respond(const ResponseShape& s, const float* z, const float* bias, int64_t pixels,
                    float* scratch, float* x) {
  const int64_t row = response_row(s), channels = s.channels;
  float *values = scratch, *sums = scratch + kPixels * row;
  for (int64_t n = 0; n < kPixels * row; ++n) values[n] = 0.0f;
  for (int64_t first = 0; first < pixels; first += kPixels) {
    const int count = static_cast<int>(pixels - first < kPixels ? pixels - first : kPixels);
    for (int p = 0; p < count; ++p) {
      float* of = values + p * row;
      for (int64_t c = 0; c < s.size; ++c) of[c] = 0.0f;
      for (int64_t c = 0; c < channels; c += kLanes) {
        const Vec a = activity(s, load(z + (first + p) * channels + c) + load(bias + c));
        store(of + s.size + c, a * a);
      }
      for (int64_t c = s.size + channels; c < row; ++c) of[c] = 0.0f;
    }
    window_sums(s, s.size / 2, s.size - 1 - s.size / 2, row, values, sums);
    for (int p = 0; p < count; ++p) {
      for (int64_t c = 0; c < channels; c += kLanes) {
        const Vec a = activity(s, load(z + (first + p) * channels + c) + load(bias + c));
        store(x + (first + p) * channels + c,
              a * power(fourth_root(s, load(sums + p * channels + c)), s.quarters));
      }
    }
  }
}

// The gradient of `respond` with respect to z, for the gradient g of x:
//   [a > 0] (g d^-beta - 2 alpha beta / size  a  sum of g a d^(-beta - 1) over the mirrored window)
static void respond_gradient(const ResponseShape& s, const float* g, const float* z,
                             const float* bias, int64_t pixels, float* scratch, float* out) {
  const int64_t row = response_row(s), channels = s.channels;
  float *values = scratch, *sums = values + kPixels * row, *scaled = sums + kPixels * channels;
  const float beta = 0.25f * static_cast<float>(s.quarters);
  const float slope = 2.0f * s.alpha * beta / static_cast<float>(s.size);
  for (int64_t n = 0; n < kPixels * row; ++n) values[n] = 0.0f;
  const int before = s.size / 2, after = s.size - 1 - before;
  for (int64_t first = 0; first < pixels; first += kPixels) {
    const int count = static_cast<int>(pixels - first < kPixels ? pixels - first : kPixels);
    const float *from = z + first * channels, *slopes = g + first * channels;
    for (int p = 0; p < count; ++p) {
      float* of = values + p * row;
      for (int64_t c = 0; c < s.size; ++c) of[c] = 0.0f;
      for (int64_t c = 0; c < channels; c += kLanes) {
        const Vec a = activity(s, load(from + p * channels + c) + load(bias + c));
        store(of + s.size + c, a * a);
      }
      for (int64_t c = s.size + channels; c < row; ++c) of[c] = 0.0f;
    }
    window_sums(s, before, after, row, values, sums);
    for (int p = 0; p < count; ++p) {
      float* of = values + p * row;
      for (int64_t c = 0; c < s.size; ++c) of[c] = 0.0f;
      for (int64_t c = 0; c < channels; c += kLanes) {
        const Vec a = activity(s, load(from + p * channels + c) + load(bias + c));
        const Vec root = fourth_root(s, load(sums + p * channels + c));
        const Vec share = load(slopes + p * channels + c) * power(root, s.quarters);
        store(scaled + p * channels + c, share);
        store(of + s.size + c, share * a * power(root, 4));
      }
      for (int64_t c = s.size + channels; c < row; ++c) of[c] = 0.0f;
    }
    window_sums(s, after, before, row, values, sums);
    for (int p = 0; p < count; ++p) {
      for (int64_t c = 0; c < channels; c += kLanes) {
        const Vec a = activity(s, load(from + p * channels + c) + load(bias + c));
        const Vec result = load(scaled + p * channels + c) - slope * a * load(sums + p * channels + c);
        store(out + (first + p) * channels + c, !s.rectify ? result : (a > 0.0f ? result : Vec{}));
      }
    }
  }
}

}  // namespace RCNN_ISA
