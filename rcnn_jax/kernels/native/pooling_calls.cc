// The calls of max-pooling.
#include "calls.h"

namespace {

using Places = ffi::Buffer<ffi::S8>;

// The shape of a pool from x [batch, height, width, channels] to y, or an error.
template <typename Pooled>
ffi::Error shape_of(const Array& x, const Pooled& y, ffi::Span<const int64_t> geometry,
                    PoolShape* s) {
  const auto d = x.dimensions(), p = y.dimensions();
  if (d.size() != 4 || p.size() != 4 || geometry.size() != 6) {
    return wrong("images have four axes, and a pool has six numbers");
  }
  *s = {d[1], d[2], d[3], p[1], p[2], geometry[0], geometry[1], geometry[2], geometry[3],
        geometry[4], geometry[5]};
  const auto starts_inside = [](int64_t size, int64_t pooled, int64_t window, int64_t stride,
                                int64_t pad) {
    return size > 0 && window > 0 && stride > 0 && pad >= 0 && pad < window && pooled >= 0 &&
           (pooled - 1) * stride - pad < size;
  };
  if (p[0] != d[0] || p[3] != d[3] || s->channels < 1 || s->channels % 16 ||
      s->window_height * s->window_width > 127 ||
      !starts_inside(s->height, s->pooled_height, s->window_height, s->stride_height, s->pad_top) ||
      !starts_inside(s->width, s->pooled_width, s->window_width, s->stride_width, s->pad_left)) {
    return wrong("the pool does not fit the images");
  }
  return ffi::Error::Success();
}

ffi::Error pool(ffi::ThreadPool threads, Array x, Out y, ffi::Result<Places> places,
                ffi::Span<const int64_t> geometry) {
  PoolShape s;
  if (auto error = shape_of(x, *y, geometry, &s); error.failure()) return error;
  if (!is(*places, *y)) return wrong("the places do not fit the result");
  const int64_t image = s.height * s.width * s.channels;
  const int64_t pooled = s.pooled_height * s.pooled_width * s.channels;
  const float* from = x.typed_data();
  float* to = y->typed_data();
  int8_t* place = places->typed_data();
  return finished(rcnn::for_each(threads, x.dimensions()[0], [&](int64_t n) {
    table().pool_image(s, from + n * image, to + n * pooled, place + n * pooled);
    return true;
  }));
}

ffi::Error pool_gradient(ffi::ThreadPool threads, Array g, Places places, Out gradient,
                         ffi::Span<const int64_t> geometry) {
  PoolShape s;
  if (auto error = shape_of(*gradient, g, geometry, &s); error.failure()) return error;
  if (!is(places, g)) return wrong("the places do not fit the gradient");
  const int64_t image = s.height * s.width * s.channels;
  const int64_t pooled = s.pooled_height * s.pooled_width * s.channels;
  const float* from = g.typed_data();
  const int8_t* place = places.typed_data();
  float* to = gradient->typed_data();
  return finished(rcnn::for_each(threads, g.dimensions()[0], [&](int64_t n) {
    table().pool_image_gradient(s, from + n * pooled, place + n * pooled, to + n * image);
    return true;
  }));
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnPool, pool,
                              BIND()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Places>()
                                  .Attr<ffi::Span<const int64_t>>("geometry"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnPoolGradient, pool_gradient,
                              BIND()
                                  .Arg<Array>()
                                  .Arg<Places>()
                                  .Ret<Array>()
                                  .Attr<ffi::Span<const int64_t>>("geometry"));
#pragma GCC visibility pop
