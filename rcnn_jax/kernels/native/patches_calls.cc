// The calls of convolutions of images with few channels.
#include "calls.h"

namespace {

// The convolution of x with a kernel [h, w, inputs, outputs], or an error.
ffi::Error shape_of(const Array& x, const Array& kernel, const Array& y, PatchShape* s) {
  const auto d = x.dimensions(), k = kernel.dimensions();
  if (d.size() != 4 || k.size() != 4) return wrong("images and kernels have four axes");
  *s = {d[1], d[2], d[3], k[3], k[0], k[1]};
  if (s->height < 1 || s->width < 1 || s->inputs < 1 || k[2] != s->inputs || s->outputs < 1 ||
      s->outputs % 16 || s->window_height % 2 == 0 || s->window_width % 2 == 0) {
    return wrong("kernels have odd windows, and outputs in multiples of 16");
  }
  if (!is(y, {d[0], d[1], d[2], s->outputs})) return wrong("the output does not fit the images");
  return ffi::Error::Success();
}

ffi::Error convolve(ffi::ThreadPool pool, Array x, Array kernel, Out y, Out packed) {
  PatchShape s;
  if (auto error = shape_of(x, kernel, *y, &s); error.failure()) return error;
  if (!is(*packed, {s.outputs / 16, s.depth(), 16})) return wrong("the packed kernel does not fit");
  const float* images = x.typed_data();
  float *panels = packed->typed_data(), *result = y->typed_data();
  table().pack_kernel(s, kernel.typed_data(), panels);
  return finished(rcnn::for_each(pool, x.dimensions()[0], [&](int64_t n) {
    float* scratch = rcnn::Scratch::of_this_thread(table().floats_of_patches(s));
    if (scratch == nullptr) return false;
    table().convolve_patches(s, images + n * s.height * s.width * s.inputs, panels, scratch,
                             result + n * s.height * s.width * s.outputs);
    return true;
  }));
}

// The gradient of the kernel, from the sums [parts][depth][outputs] of runs of images.
ffi::Error kernel_gradient(ffi::ThreadPool pool, Array x, Array g, Out gradient, Out sums) {
  PatchShape s;
  if (auto error = shape_of(x, *gradient, g, &s); error.failure()) return error;
  const auto p = sums->dimensions();
  if (p.size() != 3 || p[0] < 1 || !is(*sums, {p[0], s.depth(), s.outputs})) {
    return wrong("the sums do not fit");
  }
  const int64_t batch = x.dimensions()[0], parts = p[0], one = s.depth() * s.outputs;
  const float *images = x.typed_data(), *slopes = g.typed_data();
  float *sum = sums->typed_data(), *result = gradient->typed_data();
  const bool good = rcnn::for_each(pool, parts, [&](int64_t part) {
    float* scratch = rcnn::Scratch::of_this_thread(table().floats_of_patches(s));
    if (scratch == nullptr) return false;
    const int64_t first = batch * part / parts, last = batch * (part + 1) / parts;
    if (first == last) std::fill(sum + part * one, sum + (part + 1) * one, 0.0f);
    for (int64_t n = first; n < last; ++n) {
      table().add_patches_gradient(s, images + n * s.height * s.width * s.inputs,
                                   slopes + n * s.height * s.width * s.outputs, scratch,
                                   sum + part * one, n > first);
    }
    return true;
  });
  for (int64_t n = 0; n < one; ++n) {
    float total = sum[n];
    for (int64_t part = 1; part < parts; ++part) total += sum[part * one + n];
    result[n] = total;
  }
  return finished(good);
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnConvolvePatches, convolve,
                              BIND().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnPatchesGradient, kernel_gradient,
                              BIND().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>());
#pragma GCC visibility pop
