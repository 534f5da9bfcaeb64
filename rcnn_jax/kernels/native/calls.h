// What all calls of the library share.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>

#include "table.h"
#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Array = ffi::Buffer<ffi::F32>;
using Out = ffi::Result<ffi::Buffer<ffi::F32>>;

// Arguments are added by `.Arg<Array>()`, results by `.Ret<Array>()`.
#define BIND() ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()

inline ffi::Error wrong(const std::string& message) {
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, "a kernel of rcnn_jax: " + message);
}

inline ffi::Error finished(bool good) {
  if (good) return ffi::Error::Success();
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "no memory for a kernel's scratch space");
}

// Whether an array has these sides.
template <typename Any>
bool is(const Any& array, std::initializer_list<int64_t> sides) {
  const auto found = array.dimensions();
  return found.size() == sides.size() && std::equal(sides.begin(), sides.end(), found.begin());
}

// Whether two arrays have the same sides.
template <typename Any, typename Other>
bool is(const Any& array, const Other& other) {
  const auto a = array.dimensions();
  const auto b = other.dimensions();
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin());
}
