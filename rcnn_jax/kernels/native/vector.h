// Vectors of floats as wide as the instruction set that a file is compiled for.
//
// Every file that includes this header is compiled once for each instruction set, inside a
// namespace of its own (RCNN_ISA), so that no wide code is linked into a narrow caller. For the
// same reason nothing of the standard library with code in templates is included here.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace RCNN_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// Aligned to a float only, since rows of arrays begin anywhere; may alias other types.
typedef float Vec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

static inline Vec load(const float* from) { return *reinterpret_cast<const Vec*>(from); }
static inline void store(float* to, Vec value) { *reinterpret_cast<Vec*>(to) = value; }
static inline Vec all(float value) { return value - Vec{}; }

static inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }

static inline Vec square_root(Vec a) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, a);  // without a mask GCC 12 warns of its own header
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(a);
#else
  Vec root = a;
  for (int lane = 0; lane < kLanes; ++lane) root[lane] = __builtin_sqrtf(a[lane]);
  return root;
#endif
}

}  // namespace RCNN_ISA
