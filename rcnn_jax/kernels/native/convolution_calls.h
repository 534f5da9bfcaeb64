// What the calls that convolve images share.
#pragma once

#include "calls.h"

constexpr int64_t kPlaces = 36;
constexpr int64_t kBlock = 32;     // most tiles that are transformed at a time
constexpr int64_t kTogether = 32;  // tiles of several small images in one piece of work

// The convolution of x with a packed kernel, or an error.
inline ffi::Error shape_of(const Array& x, const Array& packed, const Array& y, ConvolutionShape* s) {
  const auto d = x.dimensions(), p = packed.dimensions();
  if (d.size() != 4 || p.size() != 4) return wrong("images and packed kernels have four axes");
  *s = {d[0], d[1], d[2], d[3], p[1] * 16};
  if (s->batch < 0 || s->height < 1 || s->width < 1 || s->inputs < 1 || s->outputs < 1 ||
      s->inputs % 16 != 0) {
    return wrong("images have sides of at least 1, and channels in multiples of 16");
  }
  if (!is(packed, {kPlaces, s->outputs / 16, s->inputs, 16})) {
    return wrong("the packed kernel does not fit the images");
  }
  if (!is(y, {s->batch, s->height, s->width, s->outputs})) return wrong("the result does not fit");
  return ffi::Error::Success();
}

inline int64_t floats_of_block(const ConvolutionShape& s) {
  return kPlaces * (kBlock * (s.inputs + s.outputs) + 32);
}

// These images of a batch.
inline ConvolutionShape images_of(const ConvolutionShape& s, int64_t count) {
  ConvolutionShape some = s;
  some.batch = count;
  return some;
}

// Convolves all tiles of some images in equal blocks.
inline void convolve_images(const ConvolutionShape& s, const float* x, const float* packed,
                            float* scratch, const float* drive, float* y) {
  const int64_t tiles = table().number_of_tiles(s), blocks = (tiles + kBlock - 1) / kBlock;
  for (int64_t n = 0; n < blocks; ++n) {
    const int64_t from = tiles * n / blocks, to = tiles * (n + 1) / blocks;
    table().convolve_tiles(s, x, packed, from, to - from, scratch, drive, y);
  }
}

// Images of one piece of work: about 24 tiles, so that all products of a block have enough rows.
inline int64_t images_at_once(const ConvolutionShape& s) {
  return std::max<int64_t>(1, kTogether / table().number_of_tiles(images_of(s, 1)));
}

// Calls `work(first image, number of images, scratch)` for all images, of which each thread gets some
// if there are enough.
template <typename Work>
bool for_images(ffi::ThreadPool& pool, const ConvolutionShape& s, int64_t floats, Work&& work) {
  const int64_t threads = std::max<int64_t>(1, pool.num_threads());
  const int64_t fair = std::max<int64_t>(1, (s.batch + threads - 1) / threads);
  const int64_t together = std::min(images_at_once(s), fair);
  return rcnn::for_each(pool, (s.batch + together - 1) / together, [&](int64_t n) {
    float* scratch = rcnn::Scratch::of_this_thread(floats);
    if (scratch == nullptr) return false;
    const int64_t first = n * together;
    work(first, std::min(together, s.batch - first), scratch);
    return true;
  });
}
