// The calls of convolutions, and of steps with batch normalization.
#include "convolution_calls.h"

namespace {

ffi::Error transform_kernel(ffi::ThreadPool pool, Array kernel, Out packed) {
  const auto d = kernel.dimensions();
  if (d.size() != 4 || d[0] != 3 || d[1] != 3 || d[2] < 1 || d[2] % 16 || d[3] < 1 || d[3] % 16) {
    return wrong("kernels are [3, 3, inputs, outputs] with channels in multiples of 16");
  }
  const ConvolutionShape s{1, 1, 1, d[2], d[3]};
  if (!is(*packed, {kPlaces, s.outputs / 16, s.inputs, 16})) return wrong("the result does not fit");
  const float* from = kernel.typed_data();
  float* to = packed->typed_data();
  return finished(rcnn::for_each(pool, s.inputs / 16, [&](int64_t n) {
    table().transform_kernel(s, from, to, 16 * n, 16 * n + 16);
    return true;
  }));
}

ffi::Error convolve(ffi::ThreadPool pool, Array x, Array packed, Out y) {
  ConvolutionShape s;
  if (auto error = shape_of(x, packed, *y, &s); error.failure()) return error;
  const int64_t tiles = table().number_of_tiles(s), blocks = (tiles + kBlock - 1) / kBlock;
  const float *images = x.typed_data(), *kernel = packed.typed_data();
  float* result = y->typed_data();
  return finished(rcnn::for_each(pool, blocks, [&](int64_t n) {
    float* scratch = rcnn::Scratch::of_this_thread(floats_of_block(s));
    if (scratch == nullptr) return false;
    const int64_t from = tiles * n / blocks, to = tiles * (n + 1) / blocks;
    table().convolve_tiles(s, images, kernel, from, to - from, scratch, nullptr, result);
    return true;
  }));
}

// The kernel gradient from images x, or from x = relu(norm(z)) if `norm` is not null.
ffi::Error kernel_gradient_of(ffi::ThreadPool& pool, const Array& x, const float* norm,
                              const Array& g, const Array& gradient, const Array& sums) {
  const auto d = x.dimensions(), e = g.dimensions();
  if (d.size() != 4 || e.size() != 4) return wrong("images have four axes");
  const ConvolutionShape s{d[0], d[1], d[2], d[3], e[3]};
  if (!is(g, {s.batch, s.height, s.width, s.outputs}) || s.inputs % 16 || s.outputs % 16 ||
      s.inputs < 1 || s.outputs < 1 || s.height < 1 || s.width < 1) {
    return wrong("the gradient does not fit the images");
  }
  if (!is(gradient, {3, 3, s.inputs, s.outputs})) return wrong("the result does not fit");
  const auto p = sums.dimensions();
  if (p.size() != 4 || !is(sums, {p[0], kPlaces, s.inputs, s.outputs}) || p[0] < 1) {
    return wrong("the sums do not fit");
  }
  const int64_t parts = p[0], places = kPlaces * s.inputs * s.outputs;
  const int64_t pixels = s.height * s.width;
  const int64_t together = images_at_once(s);
  const float *images = x.typed_data(), *slopes = g.typed_data();
  float* sum = sums.typed_data();
  const int64_t normal = norm == nullptr ? 0 : together * pixels * s.inputs;
  const bool good = rcnn::for_each(pool, parts, [&](int64_t part) {
    float* scratch = rcnn::Scratch::of_this_thread(floats_of_block(s) + normal);
    if (scratch == nullptr) return false;
    float* mine = sum + part * places;
    bool add = false;
    const int64_t last = s.batch * (part + 1) / parts;
    for (int64_t first = s.batch * part / parts; first < last; first += together) {
      const int64_t count = std::min(together, last - first);
      const ConvolutionShape some = images_of(s, count);
      const int64_t tiles = table().number_of_tiles(some);
      const float* from = images + first * pixels * s.inputs;
      const float* slope = slopes + first * pixels * s.outputs;
      if (norm != nullptr) {
        float* x_here = scratch + floats_of_block(s);
        table().normalize(from, norm, count * pixels, s.inputs, x_here);
        from = x_here;
      }
      const int64_t blocks = (tiles + kBlock - 1) / kBlock;
      for (int64_t n = 0; n < blocks; ++n) {
        const int64_t begin = tiles * n / blocks, end = tiles * (n + 1) / blocks;
        table().add_kernel_gradient(some, from, slope, begin, end - begin, scratch, mine, add);
        add = true;
      }
    }
    if (!add) std::fill(mine, mine + places, 0.0f);
    return true;
  });
  if (!good) return finished(false);
  float* result = gradient.typed_data();
  return finished(rcnn::for_each(pool, s.inputs / 16, [&](int64_t n) {
    table().finish_kernel_gradient(s, sum, parts, 16 * n, 16 * n + 16, result);
    return true;
  }));
}

ffi::Error kernel_gradient(ffi::ThreadPool pool, Array x, Array g, Out gradient, Out sums) {
  return kernel_gradient_of(pool, x, nullptr, g, *gradient, *sums);
}

ffi::Error kernel_gradient_normal(ffi::ThreadPool pool, Array z, Array norm, Array g, Out gradient,
                                  Out sums) {
  if (z.dimensions().size() != 4 || !is(norm, {3, z.dimensions()[3]})) {
    return wrong("the normalization does not fit the images");
  }
  return kernel_gradient_of(pool, z, norm.typed_data(), g, *gradient, *sums);
}

// z' = drive + w * relu(norm(z)), and the moments of every image of z' if there is room for them.
ffi::Error step_normal(ffi::ThreadPool pool, Array z, Array norm, Array drive, Array packed,
                       Out result, Out moments) {
  ConvolutionShape s;
  if (auto error = shape_of(z, packed, *result, &s); error.failure()) return error;
  const bool sum_up = is(*moments, {s.batch, 2, s.outputs});
  if (!is(norm, {3, s.inputs}) || !is(drive, *result) ||
      !is(*moments, {s.batch, sum_up ? 2 : 0, s.outputs})) {
    return wrong("an array does not fit the images");
  }
  const int64_t pixels = s.height * s.width, together = images_at_once(s);
  const int64_t floats = floats_of_block(s) + together * pixels * s.inputs;
  const float *from = z.typed_data(), *by = norm.typed_data(), *add = drive.typed_data();
  const float* kernel = packed.typed_data();
  float *to = result->typed_data(), *sums = moments->typed_data();
  return finished(for_images(pool, s, floats, [&](int64_t first, int64_t count, float* scratch) {
    float* x = scratch + floats_of_block(s);
    const int64_t begin = first * pixels * s.outputs;
    table().normalize(from + first * pixels * s.inputs, by, count * pixels, s.inputs, x);
    convolve_images(images_of(s, count), x, kernel, scratch, add + begin, to + begin);
    for (int64_t n = first; sum_up && n < first + count; ++n) {
      table().image_moments(to + n * pixels * s.outputs, pixels, s.outputs,
                            sums + n * 2 * s.outputs);
    }
  }));
}

// The gradient g of x(t) = relu(norm(z(t))) taken back to z(t), which is a result, and from there
// through the convolution to x(t-1), with the sums that the next step back needs.
ffi::Error back_normal(ffi::ThreadPool pool, Array g, Array z, Array norm, Array packed,
                       Array before, Array norm_before, Out inner, Out outer, Out sums) {
  ConvolutionShape s;
  if (auto error = shape_of(g, packed, *outer, &s); error.failure()) return error;
  if (!is(z, g) || !is(*inner, g) || !is(norm, {6, s.inputs}) || !is(before, *outer) ||
      !is(norm_before, {3, s.outputs}) || !is(*sums, {s.batch, 2, s.outputs})) {
    return wrong("an array does not fit the images");
  }
  const int64_t pixels = s.height * s.width;
  const float *slope = g.typed_data(), *value = z.typed_data(), *by = norm.typed_data();
  const float *kernel = packed.typed_data(), *value_before = before.typed_data();
  const float* by_before = norm_before.typed_data();
  float *at_z = inner->typed_data(), *at_x = outer->typed_data(), *sum = sums->typed_data();
  return finished(
      for_images(pool, s, floats_of_block(s), [&](int64_t first, int64_t count, float* scratch) {
        const int64_t here = first * pixels * s.inputs;
        table().normalize_gradient(slope + here, value + here, by, count * pixels, s.inputs,
                                   at_z + here);
        convolve_images(images_of(s, count), at_z + here, kernel, scratch, nullptr,
                        at_x + first * pixels * s.outputs);
        for (int64_t n = first; n < first + count; ++n) {
          const int64_t there = n * pixels * s.outputs;
          table().image_gradient_sums(at_x + there, value_before + there, by_before, pixels,
                                      s.outputs, sum + n * 2 * s.outputs);
        }
      }));
}

ffi::Error moments(ffi::ThreadPool pool, Array z, Out moments) {
  const auto d = z.dimensions();
  if (d.size() != 4 || d[3] < 1 || d[3] % 16 || !is(*moments, {d[0], 2, d[3]})) {
    return wrong("the moments do not fit the images");
  }
  const int64_t pixels = d[1] * d[2], channels = d[3];
  const float* from = z.typed_data();
  float* to = moments->typed_data();
  return finished(rcnn::for_each(pool, d[0], [&](int64_t n) {
    table().image_moments(from + n * pixels * channels, pixels, channels, to + n * 2 * channels);
    return true;
  }));
}

ffi::Error gradient_sums(ffi::ThreadPool pool, Array g, Array z, Array norm, Out sums) {
  const auto d = z.dimensions();
  if (d.size() != 4 || d[3] < 1 || d[3] % 16 || !is(g, z) || !is(norm, {3, d[3]}) ||
      !is(*sums, {d[0], 2, d[3]})) {
    return wrong("an array does not fit the images");
  }
  const int64_t pixels = d[1] * d[2], channels = d[3];
  const float *slope = g.typed_data(), *value = z.typed_data(), *by = norm.typed_data();
  float* to = sums->typed_data();
  return finished(rcnn::for_each(pool, d[0], [&](int64_t n) {
    const int64_t here = n * pixels * channels;
    table().image_gradient_sums(slope + here, value + here, by, pixels, channels,
                                to + n * 2 * channels);
    return true;
  }));
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnTransformKernel, transform_kernel, BIND().Arg<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnConvolve, convolve,
                              BIND().Arg<Array>().Arg<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnKernelGradient, kernel_gradient,
                              BIND().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    RcnnKernelGradientNormal, kernel_gradient_normal,
    BIND().Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnStepNormal, step_normal,
                              BIND()
                                  .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
                                  .Ret<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnBackNormal, back_normal,
                              BIND()
                                  .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
                                  .Arg<Array>().Arg<Array>()
                                  .Ret<Array>().Ret<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnMoments, moments, BIND().Arg<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnGradientSums, gradient_sums,
                              BIND().Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>());
#pragma GCC visibility pop
