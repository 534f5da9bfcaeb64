// The calls of local response normalization, alone and with the convolution of a step.
#include "convolution_calls.h"

namespace {

constexpr int64_t kPixelRows = 8;  // pixels that are normalized at a time, see response.h

int64_t floats_of_response(const ResponseShape& s) {
  return kPixelRows * (3 * s.channels + 2 * s.size + 2 * 16 + 16);
}

bool sound(const ResponseShape& s) {
  return s.channels > 0 && s.channels % 16 == 0 && s.size >= 1 && s.quarters >= 1 && s.k > 0;
}

// x = lrn(relu(z + bias)), z' = drive + w * x
ffi::Error step_response(ffi::ThreadPool pool, Array z, Array bias, Array drive, Array packed,
                         Out x, Out result, int64_t size, int64_t quarters, int64_t rectify, float alpha, float k) {
  ConvolutionShape s;
  if (auto error = shape_of(z, packed, *result, &s); error.failure()) return error;
  const ResponseShape r{s.inputs, static_cast<int>(size), static_cast<int>(quarters), rectify != 0, alpha, k};
  if (!is(bias, {s.inputs}) || !is(drive, *result) || !is(*x, z) || !sound(r)) {
    return wrong("an array does not fit the images");
  }
  const int64_t pixels = s.height * s.width;
  const int64_t floats = floats_of_block(s) + floats_of_response(r);
  const float *from = z.typed_data(), *by = bias.typed_data(), *add = drive.typed_data();
  const float* kernel = packed.typed_data();
  float *state = x->typed_data(), *to = result->typed_data();
  return finished(for_images(pool, s, floats, [&](int64_t first, int64_t count, float* scratch) {
    const int64_t here = first * pixels * s.inputs;
    table().respond(r, from + here, by, count * pixels, scratch + floats_of_block(s), state + here);
    const int64_t there = first * pixels * s.outputs;
    convolve_images(images_of(s, count), state + here, kernel, scratch, add + there, to + there);
  }));
}

// The gradient g of x(t) taken back to z(t), which is a result, and through the convolution.
ffi::Error back_response(ffi::ThreadPool pool, Array g, Array z, Array bias, Array packed,
                         Out inner, Out outer, int64_t size, int64_t quarters, int64_t rectify,
                         float alpha, float k) {
  ConvolutionShape s;
  if (auto error = shape_of(g, packed, *outer, &s); error.failure()) return error;
  const ResponseShape r{s.inputs, static_cast<int>(size), static_cast<int>(quarters), rectify != 0, alpha, k};
  if (!is(z, g) || !is(*inner, g) || !is(bias, {s.inputs}) || !sound(r)) {
    return wrong("an array does not fit the images");
  }
  const int64_t pixels = s.height * s.width;
  const int64_t floats = floats_of_block(s) + floats_of_response(r);
  const float *slope = g.typed_data(), *value = z.typed_data(), *by = bias.typed_data();
  const float* kernel = packed.typed_data();
  float *at_z = inner->typed_data(), *at_x = outer->typed_data();
  return finished(for_images(pool, s, floats, [&](int64_t first, int64_t count, float* scratch) {
    const int64_t here = first * pixels * s.inputs;
    table().respond_gradient(r, slope + here, value + here, by, count * pixels,
                             scratch + floats_of_block(s), at_z + here);
    convolve_images(images_of(s, count), at_z + here, kernel, scratch, nullptr,
                    at_x + first * pixels * s.outputs);
  }));
}

// x = lrn(relu(z + bias)) of rows of channels, in pieces of `kRows` rows.
constexpr int64_t kRows = 512;

ffi::Error respond(ffi::ThreadPool pool, Array z, Array bias, Out x, int64_t size, int64_t quarters,
                   int64_t rectify, float alpha, float k) {
  const auto d = z.dimensions();
  if (d.size() != 2) return wrong("rows have two axes");
  const ResponseShape r{d[1], static_cast<int>(size), static_cast<int>(quarters), rectify != 0, alpha, k};
  if (!is(bias, {d[1]}) || !is(*x, z) || !sound(r)) return wrong("an array does not fit the rows");
  const float *from = z.typed_data(), *by = bias.typed_data();
  float* to = x->typed_data();
  return finished(rcnn::for_each(pool, (d[0] + kRows - 1) / kRows, [&](int64_t n) {
    float* scratch = rcnn::Scratch::of_this_thread(floats_of_response(r));
    if (scratch == nullptr) return false;
    const int64_t here = n * kRows * r.channels;
    table().respond(r, from + here, by, std::min(kRows, d[0] - n * kRows), scratch, to + here);
    return true;
  }));
}

ffi::Error respond_gradient(ffi::ThreadPool pool, Array g, Array z, Array bias, Out out,
                            int64_t size, int64_t quarters, int64_t rectify, float alpha, float k) {
  const auto d = z.dimensions();
  if (d.size() != 2) return wrong("rows have two axes");
  const ResponseShape r{d[1], static_cast<int>(size), static_cast<int>(quarters), rectify != 0, alpha, k};
  if (!is(bias, {d[1]}) || !is(*out, z) || !is(g, z) || !sound(r)) {
    return wrong("an array does not fit the rows");
  }
  const float *slope = g.typed_data(), *from = z.typed_data(), *by = bias.typed_data();
  float* to = out->typed_data();
  return finished(rcnn::for_each(pool, (d[0] + kRows - 1) / kRows, [&](int64_t n) {
    float* scratch = rcnn::Scratch::of_this_thread(floats_of_response(r));
    if (scratch == nullptr) return false;
    const int64_t here = n * kRows * r.channels;
    table().respond_gradient(r, slope + here, from + here, by, std::min(kRows, d[0] - n * kRows),
                             scratch, to + here);
    return true;
  }));
}

}  // namespace

#pragma GCC visibility push(default)
#define RESPONSE_ATTRIBUTES \
  .Attr<int64_t>("size").Attr<int64_t>("quarters").Attr<int64_t>("rectify") \
      .Attr<float>("alpha").Attr<float>("k")

XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnStepResponse, step_response,
                              BIND()
                                  .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
                                  .Ret<Array>().Ret<Array>() RESPONSE_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnBackResponse, back_response,
                              BIND()
                                  .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
                                  .Ret<Array>().Ret<Array>() RESPONSE_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnRespond, respond,
                              BIND().Arg<Array>().Arg<Array>().Ret<Array>() RESPONSE_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    RcnnRespondGradient, respond_gradient,
    BIND().Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>() RESPONSE_ATTRIBUTES);
#pragma GCC visibility pop
