// Convolution of images with few channels, such as colours: a product with the patches of a row.
#pragma once

#include "product.h"
#include "shapes.h"

namespace RCNN_ISA {

// Floats from one patch to the next: the last vector of a patch may be written beyond its end.
static inline int64_t patch_step(const PatchShape& s) { return s.depth() + 16; }

static inline int64_t padded_row(const PatchShape& s) {
  return (s.width + s.window_width - 1) * s.inputs + 16;
}

// Writes the patches of an output row of one image, [width][window_height, window_width, inputs].
static void row_of_patches(const PatchShape& s, const float* image, int64_t row, float* padded,
                           float* patches) {
  const int64_t run = s.window_width * s.inputs, step = patch_step(s);
  const int64_t before = s.window_width / 2 * s.inputs, inside = s.width * s.inputs;
  for (int64_t i = 0; i < s.window_height; ++i) {
    const int64_t from = row - s.window_height / 2 + i;
    const bool there = from >= 0 && from < s.height;
    const float* line = image + from * inside;
    for (int64_t n = 0; n < padded_row(s); ++n) {
      padded[n] = there && n >= before && n < before + inside ? line[n - before] : 0.0f;
    }
    // In this order what is written beyond the end of a run is written over by the next one.
    float* to = patches + i * run;
    for (int64_t x = 0; x < s.width; ++x, to += step) {
      for (int64_t n = 0; n < run; n += kLanes) store(to + n, load(padded + x * s.inputs + n));
    }
  }
}

// Packs a kernel [depth][outputs] into panels [outputs / 16][depth][16].
static void pack_kernel(const PatchShape& s, const float* kernel, float* packed) {
  for (int64_t k = 0; k < s.outputs; k += kLanes) {
    float* to = packed + k / kPanel * s.depth() * kPanel + k % kPanel;
    for (int64_t d = 0; d < s.depth(); ++d) store(to + d * kPanel, load(kernel + d * s.outputs + k));
  }
}

// Convolves one image. `scratch` has room for `floats_of_patches`.
static void convolve_patches(const PatchShape& s, const float* image, const float* packed,
                             float* scratch, float* y) {
  float* patches = scratch + padded_row(s);
  for (int64_t row = 0; row < s.height; ++row) {
    row_of_patches(s, image, row, scratch, patches);
    product(static_cast<int>(s.width), static_cast<int>(s.outputs / kPanel),
            static_cast<int>(s.depth()), {patches, patch_step(s), 1},
            {packed, s.depth() * kPanel}, {y + row * s.width * s.outputs, s.outputs}, false);
  }
}

// Adds the kernel gradient of one image to `sums` [depth][outputs], or sets it to that.
static void add_patches_gradient(const PatchShape& s, const float* image, const float* gradient,
                                 float* scratch, float* sums, bool add) {
  float* patches = scratch + padded_row(s);
  float* panels = patches + s.width * patch_step(s);
  for (int64_t row = 0; row < s.height; ++row) {
    row_of_patches(s, image, row, scratch, patches);
    const float* g = gradient + row * s.width * s.outputs;
    for (int64_t x = 0; x < s.width; ++x) {
      for (int64_t k = 0; k < s.outputs; k += kLanes) {
        store(panels + (k / kPanel * s.width + x) * kPanel + k % kPanel, load(g + x * s.outputs + k));
      }
    }
    product(static_cast<int>(s.depth()), static_cast<int>(s.outputs / kPanel),
            static_cast<int>(s.width), {patches, 1, patch_step(s)}, {panels, s.width * kPanel},
            {sums, s.outputs}, add || row > 0);
  }
}

static int64_t floats_of_patches(const PatchShape& s) {
  return padded_row(s) + s.width * (patch_step(s) + s.outputs) + 16;
}

}  // namespace RCNN_ISA
