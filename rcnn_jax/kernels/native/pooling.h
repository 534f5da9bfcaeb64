// Max-pooling over two spatial axes, which keeps the place of the largest value for the way back.
#pragma once

#include "shapes.h"
#include "vector.h"

namespace RCNN_ISA {

typedef int8_t ByteVec __attribute__((vector_size(kLanes), aligned(1), may_alias));

// Calls `inside(n, pixel)` for the places of a window that lie in the image, in row-major order: n
// counts all places of the window, and `pixel` is an index into the image.
template <typename Inside>
static inline void each_place(const PoolShape& s, int64_t row, int64_t column, Inside inside) {
  for (int64_t i = 0; i < s.window_height; ++i) {
    const int64_t y = row * s.stride_height - s.pad_top + i;
    if (y < 0 || y >= s.height) continue;
    for (int64_t j = 0; j < s.window_width; ++j) {
      const int64_t x = column * s.stride_width - s.pad_left + j;
      if (x < 0 || x >= s.width) continue;
      inside(static_cast<int>(i * s.window_width + j), y * s.width + x);
    }
  }
}

// The largest value of each window of one image, the first of several, and its place. NaN is larger
// than every number, and its place is that of the largest number before it.
static void pool_image(const PoolShape& s, const float* x, float* y, int8_t* places) {
  const float* pixels[128];
  int8_t numbers[128];
  for (int64_t row = 0; row < s.pooled_height; ++row) {
    for (int64_t column = 0; column < s.pooled_width; ++column) {
      int count = 0;
      each_place(s, row, column, [&](int n, int64_t pixel) {
        numbers[count] = static_cast<int8_t>(n);
        pixels[count++] = x + pixel * s.channels;
      });
      for (int64_t c = 0; c < s.channels; c += kLanes) {
        Vec best = all(-__builtin_inff());
        IntVec place = {};
        for (int n = 0; n < count; ++n) {
          const Vec value = load(pixels[n] + c);
          const IntVec more = value > best;
          const IntVec number = numbers[n] - IntVec{};
          place = more ? number : place;
          best = (more | (value != value)) ? value : best;
        }
        store(y + c, best);
        *reinterpret_cast<ByteVec*>(places + c) = __builtin_convertvector(place, ByteVec);
      }
      y += s.channels;
      places += s.channels;
    }
  }
}

// Hands the gradient of each window of one image to the place of its largest value.
static void pool_image_gradient(const PoolShape& s, const float* g, const int8_t* places,
                                float* gradient) {
  for (int64_t n = 0; n < s.height * s.width * s.channels; n += kLanes) store(gradient + n, Vec{});
  for (int64_t row = 0; row < s.pooled_height; ++row) {
    for (int64_t column = 0; column < s.pooled_width; ++column) {
      each_place(s, row, column, [&](int n, int64_t pixel) {
        float* to = gradient + pixel * s.channels;
        for (int64_t c = 0; c < s.channels; c += kLanes) {
          const ByteVec place = *reinterpret_cast<const ByteVec*>(places + c);
          const IntVec here = __builtin_convertvector(place, IntVec) == n;
          store(to + c, load(to + c) + (here ? load(g + c) : Vec{}));
        }
      });
      g += s.channels;
      places += s.channels;
    }
  }
}

}  // namespace RCNN_ISA
