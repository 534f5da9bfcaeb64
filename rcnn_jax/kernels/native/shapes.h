// Shapes that the files of all instruction sets share.
#pragma once

#include <cstdint>

// A convolution of stride 1 that keeps the spatial shape.
struct ConvolutionShape {
  int64_t batch, height, width, inputs, outputs;
};

// A local response normalization over `size` channels, d = k + alpha / size sum, to the power of
// -quarters / 4, of what is rectified before or is not.
struct ResponseShape {
  int64_t channels;
  int size, quarters;
  bool rectify;
  float alpha, k;
};

// A pool over windows of an image.
struct PoolShape {
  int64_t height, width, channels, pooled_height, pooled_width;
  int64_t window_height, window_width, stride_height, stride_width, pad_top, pad_left;
};
