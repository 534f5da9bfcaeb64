// The logistic function and tanh, for vectors.
//
// Both are computed from exp(y) - 1 with y = k log 2 + r, |r| <= log(2) / 2:
//
//     exp(y) - 1 = 2^k p(r) + (2^k - 1),   p(r) = r + r^2 q(r)
//
// q interpolates (exp(r) - 1 - r) / r^2 at Chebyshev points; it is wrong by 2e-9 of p.
#pragma once

#include "vector.h"

namespace RCNN_ISA {

static inline IntVec bits(Vec a) { return reinterpret_cast<IntVec>(a); }
static inline Vec from_bits(IntVec a) { return reinterpret_cast<Vec>(a); }

// Returns a / b for finite b, to within a unit in the last place.
static inline Vec quotient(Vec a, Vec b) {
#if defined(__AVX512F__)
  // A correction of 14 bits by the remainder leaves 28. A division takes four times as long.
  const Vec inverse = _mm512_maskz_rcp14_ps(0xffff, b);
  const Vec first = a * inverse;
  return first + inverse * (a - b * first);
#else
  return a / b;
#endif
}

// 2^k, and p(r) of y = k log 2 + r; NaN leaves p NaN. |y| is at most 87.
struct Exponential {
  Vec power, p;
};

static inline Exponential exponential(Vec y) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: a sum with it is rounded to an integer
  const Vec shifted = y * all(1.44269504f) + all(kShift);
  const Vec k = shifted - all(kShift);
  const IntVec power = (bits(shifted) - bits(all(kShift)) + 127) << 23;
  const Vec r = (y - k * all(0.693359375f)) - k * all(-2.12194440e-4f);
  Vec q = all(1.98910799e-4f);
  q = q * r + all(1.39337312e-3f);
  q = q * r + all(8.33331048e-3f);
  q = q * r + all(4.16664630e-2f);
  q = q * r + all(1.66666672e-1f);
  q = q * r + all(0.5f);
  return {from_bits(power), r + r * r * q};
}

static inline Vec sigmoid(Vec z) {
  Vec y = -z;
  y = y > all(87.0f) ? all(87.0f) : y;
  y = y < all(-87.0f) ? all(-87.0f) : y;
  const Exponential e = exponential(y);
  return quotient(all(1.0f), (e.power + all(1.0f)) + e.power * e.p);
}

static inline Vec hyperbolic_tangent(Vec x) {
  const IntVec sign = bits(x) & bits(all(-0.0f));
  Vec y = from_bits(bits(x) ^ sign);
  y = y > all(9.02f) ? all(9.02f) : y;  // where the result rounds to 1; NaN stays
  const Exponential e = exponential(y + y);
  const Vec minus_1 = e.power * e.p + (e.power - all(1.0f));
  return from_bits(bits(quotient(minus_1, minus_1 + all(2.0f))) | sign);
}

}  // namespace RCNN_ISA
