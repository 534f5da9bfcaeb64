// Convolution with a window of 3 x 3 by Winograd's F(4 x 4, 3 x 3): 16 outputs from 36 products.
//
// Each image is cut into tiles of 4 x 4 outputs, smaller at an edge that does not fill one. A block of tiles is transformed, multiplied and
// transformed back while it is in the cache of a core; that, and a quarter of the multiplications,
// makes it fast. The interpolation points are 0, +-sqrt(1/2), +-sqrt(2) and infinity, whose rounding
// errors are smaller than those of 0, +-1, +-2 and infinity: the coefficients lie closer together.
//
// References: Winograd 1980; Lavin & Gray, CVPR 2016.
#pragma once

#include "product.h"
#include "shapes.h"

namespace RCNN_ISA {

constexpr float kA = 0.70710678118654752440f;  // sqrt(1/2), the first point
constexpr float kB = 1.41421356237309504880f;  // sqrt(2), the second point
constexpr int kSide = 6;                       // of a transformed tile
constexpr int kPlaces = kSide * kSide;
constexpr int kTile = 4;

// Sizes of the scratch memory, in floats. The last floats of a place keep the places from falling
// into the same sets of the cache.
static inline ptrdiff_t place_step(ptrdiff_t tiles, ptrdiff_t channels) {
  return tiles * channels + 16;
}

// Transforms along one axis of F(4, 3), or of F(2, 3) for the last tile of a row whose other outputs
// would be empty. F(2, 3) takes the points 0, +-sqrt(1/2) and infinity, so that the transformed kernel
// is the same one: the factors by which it differs are in the transform of the input. Its products
// stand at the places 0, 1, 2 and 5. Arrays are strided by the template argument.
template <int TILE, int STEP>
static inline void transform_input(const Vec* d, Vec* t) {
  if constexpr (TILE == 4) {
    const Vec even = d[4 * STEP] - 2.0f * d[2 * STEP];
    const Vec odd = kA * d[3 * STEP] - kB * d[STEP];
    const Vec even2 = d[4 * STEP] - 0.5f * d[2 * STEP];
    const Vec odd2 = kB * d[3 * STEP] - kA * d[STEP];
    const Vec first = (d[0] - 2.5f * d[2 * STEP]) + d[4 * STEP];
    const Vec last = (d[STEP] - 2.5f * d[3 * STEP]) + d[5 * STEP];
    t[0] = first;
    t[STEP] = even + odd;
    t[2 * STEP] = even - odd;
    t[3 * STEP] = even2 + odd2;
    t[4 * STEP] = even2 - odd2;
    t[5 * STEP] = last;
  } else {
    const Vec even = -1.5f * d[2 * STEP], odd = (-1.5f * kA) * d[STEP];
    const Vec first = d[0] - 2.0f * d[2 * STEP], last = d[3 * STEP] - 0.5f * d[STEP];
    t[0] = first;
    t[STEP] = even + odd;
    t[2 * STEP] = even - odd;
    t[5 * STEP] = last;
  }
}

template <int TILE, int STEP>
static inline void transform_output(const Vec* m, Vec* y) {
  const Vec sum = m[STEP] + m[2 * STEP], difference = m[STEP] - m[2 * STEP];
  const Vec last = m[5 * STEP];
  if constexpr (TILE == 4) {
    const Vec sum2 = m[3 * STEP] + m[4 * STEP], difference2 = m[3 * STEP] - m[4 * STEP];
    y[0] = (m[0] + sum) + sum2;
    y[STEP] = kA * difference + kB * difference2;
    y[2 * STEP] = 0.5f * sum + 2.0f * sum2;
    y[3 * STEP] = (0.5f * kA * difference + 2.0f * kB * difference2) + last;
  } else {
    y[0] = m[0] + sum;
    y[STEP] = kA * difference + last;
  }
}

// The adjoint of `transform_output`.
template <int TILE, int STEP>
static inline void transform_gradient(const Vec* g, Vec* q) {
  if constexpr (TILE == 4) {
    const Vec even = g[0] + 0.5f * g[2 * STEP], odd = kA * g[STEP] + 0.5f * kA * g[3 * STEP];
    const Vec even2 = g[0] + 2.0f * g[2 * STEP], odd2 = kB * g[STEP] + 2.0f * kB * g[3 * STEP];
    const Vec first = g[0], last = g[3 * STEP];
    q[0] = first;
    q[STEP] = even + odd;
    q[2 * STEP] = even - odd;
    q[3 * STEP] = even2 + odd2;
    q[4 * STEP] = even2 - odd2;
    q[5 * STEP] = last;
  } else {
    const Vec first = g[0], last = g[STEP], odd = kA * g[STEP];
    q[0] = first;
    q[STEP] = first + odd;
    q[2 * STEP] = first - odd;
    q[5 * STEP] = last;
  }
}

template <int STEP>
static inline void transform_kernel_axis(const Vec* w, Vec* u) {
  const Vec even = w[0] + 0.5f * w[2 * STEP], odd = kA * w[STEP];
  const Vec even2 = w[0] + 2.0f * w[2 * STEP], odd2 = kB * w[STEP];
  const Vec first = w[0], last = w[2 * STEP];
  u[0] = first;
  u[STEP] = (-2.0f / 3.0f) * (even + odd);
  u[2 * STEP] = (-2.0f / 3.0f) * (even - odd);
  u[3 * STEP] = (1.0f / 6.0f) * (even2 + odd2);
  u[4 * STEP] = (1.0f / 6.0f) * (even2 - odd2);
  u[5 * STEP] = last;
}

// The adjoint of `transform_kernel_axis`.
template <int STEP>
static inline void transform_kernel_gradient(const Vec* r, Vec* w) {
  const Vec sum = (-2.0f / 3.0f) * (r[STEP] + r[2 * STEP]);
  const Vec difference = (-2.0f / 3.0f) * (r[STEP] - r[2 * STEP]);
  const Vec sum2 = (1.0f / 6.0f) * (r[3 * STEP] + r[4 * STEP]);
  const Vec difference2 = (1.0f / 6.0f) * (r[3 * STEP] - r[4 * STEP]);
  const Vec last = r[5 * STEP];
  w[0] = (r[0] + sum) + sum2;
  w[STEP] = kA * difference + kB * difference2;
  w[2 * STEP] = (0.5f * sum + 2.0f * sum2) + last;
}

// Transforms the kernel [3, 3, inputs, outputs] of the input channels first..last-1 into panels
// [36][outputs / 16][inputs][16].
static void transform_kernel(const ConvolutionShape& s, const float* kernel, float* packed,
                             int64_t first, int64_t last) {
  const ptrdiff_t tap = s.inputs * s.outputs;
  for (int64_t c = first; c < last; ++c) {
    for (int64_t k = 0; k < s.outputs; k += kLanes) {
      Vec w[9], half[18], u[kPlaces];
      for (int n = 0; n < 9; ++n) w[n] = load(kernel + n * tap + c * s.outputs + k);
      for (int column = 0; column < 3; ++column) {
        transform_kernel_axis<3>(w + column, half + column);
      }
      for (int row = 0; row < kSide; ++row) transform_kernel_axis<1>(half + 3 * row, u + kSide * row);
      float* to = packed + (k / kPanel * s.inputs + c) * kPanel + k % kPanel;
      for (int n = 0; n < kPlaces; ++n) store(to + n * tap, u[n]);
    }
  }
}

// Whether F(2, 3) has a product at this place of an axis.
static constexpr bool in_edge(int place) { return place != 3 && place != 4; }

// The tiles of all images, in four classes one after the other: tiles of 4 x 2 outputs at the right
// edge, of 4 x 4, of 2 x 4 at the bottom, of 2 x 2 in the corner. An edge is there where a side leaves
// a rest of 1 or 2 outputs. In this order the tiles that have a product at a place lie together.
struct Tiling {
  int64_t rows, columns;            // of whole tiles in an image
  int64_t edge_rows, edge_columns;  // 0 or 1
  int64_t images;

  explicit Tiling(const ConvolutionShape& s)
      : rows(whole(s.height)),
        columns(whole(s.width)),
        edge_rows(edge(s.height)),
        edge_columns(edge(s.width)),
        images(s.batch) {}

  static int64_t whole(int64_t side) { return side / kTile + (side % kTile == 3); }
  static int64_t edge(int64_t side) { return side % kTile == 1 || side % kTile == 2; }

  // The number of tiles of the classes before this one.
  int64_t before(int which) const {
    const int64_t of_image[4] = {rows * edge_columns, rows * columns, edge_rows * columns,
                                 edge_rows * edge_columns};
    int64_t sum = 0;
    for (int n = 0; n < which; ++n) sum += of_image[n];
    return sum * images;
  }
};

// Calls `inside(place, height, width, n)` for `count` tiles from `first` on: the first output of a
// tile as image, row and column, its height and width as constants, and its number in the block.
struct Place {
  int64_t image, row, column;
};

template <int N>
struct Number {
  static constexpr int value = N;
};

template <typename Inside>
static inline void each_tile(const Tiling& tiling, int64_t first, int64_t count, Inside inside) {
  const int64_t heights[4] = {tiling.rows, tiling.rows, tiling.edge_rows, tiling.edge_rows};
  const int64_t widths[4] = {tiling.edge_columns, tiling.columns, tiling.columns,
                             tiling.edge_columns};
  for (int which = 0; which < 4; ++which) {
    const int64_t begin = tiling.before(which), end = tiling.before(which + 1);
    const int64_t top = which < 2 ? 0 : tiling.rows * kTile;
    const int64_t left = which == 1 || which == 2 ? 0 : tiling.columns * kTile;
    for (int64_t t = begin > first ? begin : first; t < end && t < first + count; ++t) {
      const int64_t inside_class = t - begin, of_image = heights[which] * widths[which];
      const int64_t in_image = inside_class % of_image;
      const Place place{inside_class / of_image, top + in_image / widths[which] * kTile,
                        left + in_image % widths[which] * kTile};
      const int64_t n = t - first;
      if (which == 0) inside(place, Number<4>(), Number<2>(), n);
      if (which == 1) inside(place, Number<4>(), Number<4>(), n);
      if (which == 2) inside(place, Number<2>(), Number<4>(), n);
      if (which == 3) inside(place, Number<2>(), Number<2>(), n);
    }
  }
}

// The tiles of a block that have a product at the place (i, j): numbers from `begin` to `end` - 1.
struct Range {
  int64_t begin, end;
};

static inline Range tiles_at(const Tiling& tiling, int64_t first, int64_t count, int i, int j) {
  const int from = in_edge(j) ? 0 : 1;
  const int to = in_edge(i) ? (in_edge(j) ? 4 : 3) : 2;
  const auto clip = [&](int64_t tile) {
    return tile < first ? 0 : (tile > first + count ? count : tile - first);
  };
  return {clip(tiling.before(from)), clip(tiling.before(to))};
}

// Transforms tiles of an image array [batch, height, width, channels] into [36][count][channels],
// where a place begins `step` floats after the one before.
static void input_tiles(const ConvolutionShape& s, const float* x, int64_t channels, int64_t first,
                        int64_t count, float* to, ptrdiff_t step) {
  each_tile(Tiling(s), first, count, [&](Place place, auto height, auto width, int64_t t) {
    constexpr int kHeight = decltype(height)::value, kWidth = decltype(width)::value;
    constexpr int kRowsIn = kHeight + 2, kColumnsIn = kWidth + 2;
    const float* from[kPlaces];
    bool inside[kPlaces];
    for (int i = 0; i < kRowsIn; ++i) {
      for (int j = 0; j < kColumnsIn; ++j) {
        const int64_t row = place.row - 1 + i, column = place.column - 1 + j;
        const bool in = row >= 0 && row < s.height && column >= 0 && column < s.width;
        inside[kSide * i + j] = in;
        from[kSide * i + j] =
            in ? x + ((place.image * s.height + row) * s.width + column) * channels : x;
      }
    }
    for (int64_t c = 0; c < channels; c += kLanes) {
      Vec d[kPlaces], half[kPlaces];
#pragma GCC unroll 6
      for (int i = 0; i < kRowsIn; ++i) {
#pragma GCC unroll 6
        for (int j = 0; j < kColumnsIn; ++j) {
          const int n = kSide * i + j;
          d[n] = inside[n] ? load(from[n] + c) : Vec{};
        }
      }
#pragma GCC unroll 6
      for (int j = 0; j < kColumnsIn; ++j) transform_input<kHeight, kSide>(d + j, half + j);
      float* out = to + t * channels + c;
#pragma GCC unroll 6
      for (int i = 0; i < kSide; ++i) {
        if (kHeight == 2 && !in_edge(i)) continue;
        Vec v[kSide];
        transform_input<kWidth, 1>(half + kSide * i, v);
#pragma GCC unroll 6
        for (int j = 0; j < kSide; ++j) {
          if (kWidth == 4 || in_edge(j)) store(out + (kSide * i + j) * step, v[j]);
        }
      }
    }
  });
}

// Transforms products [36][count][outputs] to the tiles of y [batch, height, width, outputs], and
// adds `drive` of the same shape unless it is null.
static void output_tiles(const ConvolutionShape& s, const float* products, ptrdiff_t step,
                         int64_t first, int64_t count, const float* drive, float* y) {
  each_tile(Tiling(s), first, count, [&](Place place, auto height, auto width, int64_t t) {
    constexpr int kHeight = decltype(height)::value, kWidth = decltype(width)::value;
    const int rows = static_cast<int>(s.height - place.row < kHeight ? s.height - place.row : kHeight);
    const int columns =
        static_cast<int>(s.width - place.column < kWidth ? s.width - place.column : kWidth);
    const int64_t begin =
        ((place.image * s.height + place.row) * s.width + place.column) * s.outputs;
    for (int64_t k = 0; k < s.outputs; k += kLanes) {
      Vec m[kPlaces], half[kTile * kSide], out[kTile * kTile];
      const float* from = products + t * s.outputs + k;
#pragma GCC unroll 6
      for (int i = 0; i < kSide; ++i) {
#pragma GCC unroll 6
        for (int j = 0; j < kSide; ++j) {
          const bool there = (kHeight == 4 || in_edge(i)) && (kWidth == 4 || in_edge(j));
          if (there) m[kSide * i + j] = load(from + (kSide * i + j) * step);
        }
      }
#pragma GCC unroll 6
      for (int j = 0; j < kSide; ++j) {
        if (kWidth == 4 || in_edge(j)) transform_output<kHeight, kSide>(m + j, half + j);
      }
#pragma GCC unroll 4
      for (int i = 0; i < kHeight; ++i) transform_output<kWidth, 1>(half + kSide * i, out + kTile * i);
      for (int i = 0; i < rows; ++i) {
        for (int j = 0; j < columns; ++j) {
          const int64_t at = begin + (i * s.width + j) * s.outputs + k;
          store(y + at, drive ? load(drive + at) + out[kTile * i + j] : out[kTile * i + j]);
        }
      }
    }
  });
}

// Transforms the output gradient of tiles into panels [36][outputs / 16][count][16].
static void gradient_tiles(const ConvolutionShape& s, const float* g, int64_t first, int64_t count,
                           float* to, ptrdiff_t step) {
  each_tile(Tiling(s), first, count, [&](Place place, auto height, auto width, int64_t t) {
    constexpr int kHeight = decltype(height)::value, kWidth = decltype(width)::value;
    const int64_t rows = s.height - place.row, columns = s.width - place.column;
    const float* from =
        g + ((place.image * s.height + place.row) * s.width + place.column) * s.outputs;
    for (int64_t k = 0; k < s.outputs; k += kLanes) {
      Vec d[kTile * kTile], half[kSide * kTile];
#pragma GCC unroll 4
      for (int i = 0; i < kHeight; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kWidth; ++j) {
          d[kTile * i + j] =
              i < rows && j < columns ? load(from + (i * s.width + j) * s.outputs + k) : Vec{};
        }
      }
#pragma GCC unroll 4
      for (int j = 0; j < kWidth; ++j) transform_gradient<kHeight, kTile>(d + j, half + j);
      float* out = to + (k / kPanel * count + t) * kPanel + k % kPanel;
#pragma GCC unroll 6
      for (int i = 0; i < kSide; ++i) {
        if (kHeight == 2 && !in_edge(i)) continue;
        Vec q[kSide];
        transform_gradient<kWidth, 1>(half + kTile * i, q);
#pragma GCC unroll 6
        for (int j = 0; j < kSide; ++j) {
          if (kWidth == 4 || in_edge(j)) store(out + (kSide * i + j) * step, q[j]);
        }
      }
    }
  });
}

static int64_t number_of_tiles(const ConvolutionShape& s) { return Tiling(s).before(4); }

// Convolves the tiles first..first+count-1 and adds `drive` unless it is null.
static void convolve_tiles(const ConvolutionShape& s, const float* x, const float* packed,
                           int64_t first, int64_t count, float* scratch, const float* drive,
                           float* y) {
  const Tiling tiling(s);
  const ptrdiff_t step = place_step(count, s.inputs), out_step = place_step(count, s.outputs);
  float* products = scratch + kPlaces * step;
  input_tiles(s, x, s.inputs, first, count, scratch, step);
  const int panels = static_cast<int>(s.outputs / kPanel);
  for (int n = 0; n < kPlaces; ++n) {
    const Range range = tiles_at(tiling, first, count, n / kSide, n % kSide);
    product(static_cast<int>(range.end - range.begin), panels, static_cast<int>(s.inputs),
            {scratch + n * step + range.begin * s.inputs, static_cast<ptrdiff_t>(s.inputs), 1},
            {packed + n * s.inputs * s.outputs, static_cast<ptrdiff_t>(s.inputs) * kPanel},
            {products + n * out_step + range.begin * s.outputs, static_cast<ptrdiff_t>(s.outputs)},
            false);
  }
  output_tiles(s, products, out_step, first, count, drive, y);
}

// Adds the contribution of tiles to the gradient of the transformed kernel [36][inputs][outputs],
// or sets it to that.
static void add_kernel_gradient(const ConvolutionShape& s, const float* x, const float* g,
                                int64_t first, int64_t count, float* scratch, float* sums,
                                bool add) {
  const Tiling tiling(s);
  const ptrdiff_t step = place_step(count, s.inputs), out_step = place_step(count, s.outputs);
  float* gradients = scratch + kPlaces * step;
  input_tiles(s, x, s.inputs, first, count, scratch, step);
  gradient_tiles(s, g, first, count, gradients, out_step);
  for (int n = 0; n < kPlaces; ++n) {
    const Range range = tiles_at(tiling, first, count, n / kSide, n % kSide);
    float* sum = sums + n * s.inputs * s.outputs;
    product(static_cast<int>(s.inputs), static_cast<int>(s.outputs / kPanel),
            static_cast<int>(range.end - range.begin),
            {scratch + n * step + range.begin * s.inputs, 1, static_cast<ptrdiff_t>(s.inputs)},
            {gradients + n * out_step + range.begin * kPanel,
             static_cast<ptrdiff_t>(count) * kPanel},
            {sum, static_cast<ptrdiff_t>(s.outputs)}, add);
  }
}

// Sums the parts [parts][36][inputs][outputs] in order and transforms them to the gradient of the
// kernel [3, 3, inputs, outputs], for the input channels first..last-1.
static void finish_kernel_gradient(const ConvolutionShape& s, const float* sums, int64_t parts,
                                   int64_t first, int64_t last, float* gradient) {
  const ptrdiff_t tap = s.inputs * s.outputs;
  for (int64_t c = first; c < last; ++c) {
    for (int64_t k = 0; k < s.outputs; k += kLanes) {
      Vec r[kPlaces], half[3 * kSide], w[9];
      for (int n = 0; n < kPlaces; ++n) {
        const float* from = sums + n * tap + c * s.outputs + k;
        r[n] = load(from);
        for (int64_t part = 1; part < parts; ++part) r[n] += load(from + part * kPlaces * tap);
      }
      for (int j = 0; j < kSide; ++j) transform_kernel_gradient<kSide>(r + j, half + j);
      for (int i = 0; i < 3; ++i) transform_kernel_gradient<1>(half + kSide * i, w + 3 * i);
      for (int n = 0; n < 9; ++n) store(gradient + n * tap + c * s.outputs + k, w[n]);
    }
  }
}

}  // namespace RCNN_ISA
