// Products of large matrices: packing, and products of packed parts.
#pragma once

#include "product.h"
#include "shapes.h"

namespace RCNN_ISA {

// Packs rows from..to-1 of 16 columns into a panel [rows][16].
static void pack_panel(const Matrix& m, int64_t from, int64_t to, float* panel) {
  if (m.column_step == 1) {
    for (int64_t row = from; row < to; ++row) {
      for (int lane = 0; lane < kPanel; lane += kLanes) {
        store(panel + (row - from) * kPanel + lane, load(m.data + row * m.row_step + lane));
      }
    }
    return;
  }
  // Some rows at a time, so that the panel stays in the first cache while it is written in steps.
  constexpr int64_t kTogether = 64;
  for (int64_t begin = from; begin < to; begin += kTogether) {
    const int64_t end = begin + kTogether < to ? begin + kTogether : to;
    for (int64_t column = 0; column < kPanel; ++column) {
      const float* source = m.data + column * m.column_step;
      for (int64_t row = begin; row < end; ++row) {
        panel[(row - from) * kPanel + column] = source[row * m.row_step];
      }
    }
  }
}

// Packs rows from..to-1 of a matrix [..][row_step] into panels [panels][to - from][16], and adds
// their sum to sums [panels * 16]. The sum is one of sums of few rows, which round less.
static void pack_rows(const float* data, int64_t row_step, int64_t from, int64_t to, int64_t panels,
                      float* packed, float* sums) {
  constexpr int64_t kTogether = 32, kEarly = 8;
  const int64_t depth = to - from;
  for (int64_t begin = 0; begin < depth; begin += kTogether) {
    const int64_t end = begin + kTogether < depth ? begin + kTogether : depth;
    for (int64_t panel = 0; panel < panels; ++panel) {
      for (int64_t lane = 0; lane < kPanel; lane += kLanes) {
        const int64_t column = panel * kPanel + lane;
        Vec sum{};
        for (int64_t row = begin; row < end; ++row) {
          const float* source = data + (from + row) * row_step + column;
          // Rows lie far apart: those that follow are asked for early.
          if (row + kEarly < depth) __builtin_prefetch(source + kEarly * row_step);
          const Vec value = load(source);
          store(packed + (panel * depth + row) * kPanel + lane, value);
          sum += value;
        }
        store(sums + column, load(sums + column) + sum);
      }
    }
  }
}

// Packs `depth` rows [columns] into the transpose as the micro-kernel takes it, blocks
// [columns / kRows][depth][kRows]. A group of rows at a time is read as it lies and stays in the
// first cache while it is cut.
static void pack_transposed(const float* rows, int64_t columns, int64_t depth, float* packed) {
  constexpr int64_t kTogether = 16;
  for (int64_t begin = 0; begin < depth; begin += kTogether) {
    const int64_t end = begin + kTogether < depth ? begin + kTogether : depth;
    for (int64_t block = 0; block < columns; block += kRows) {
      const int64_t wide = columns - block < kRows ? columns - block : kRows;
      for (int64_t k = begin; k < end; ++k) {
        const float* source = rows + k * columns + block;
        float* here = packed + block * depth + k * kRows;
        if (wide == kRows) {
          for (int c = 0; c < kRows; ++c) here[c] = source[c];
        } else {
          for (int64_t c = 0; c < wide; ++c) here[c] = source[c];
        }
      }
    }
  }
}

// Multiplies a packed transpose [blocks][depth][kRows] by panels [panels][depth][16].
static void transposed_product(int64_t rows, int64_t panels, int64_t depth, const float* packed,
                               const float* right, float* result, int64_t row_step, bool add) {
  for (int64_t panel = 0; panel < panels;) {
    // As `product` cuts panels, with all rows for each cut.
    const int64_t left = panels - panel;
    const int64_t now = left < kPanels ? left : left == 4 && kPanels > 2 ? 2 : kPanels;
    for (int64_t row = 0; row < rows; row += kRows) {
      const int64_t here = rows - row < kRows ? rows - row : kRows;
      product(static_cast<int>(here), static_cast<int>(now), static_cast<int>(depth),
              {packed + row * depth, 1, kRows}, {right + panel * depth * kPanel, depth * kPanel},
              {result + row * row_step + panel * kPanel, row_step}, add);
    }
    panel += now;
  }
}

// result = left * right of rows of a left-hand matrix.
static void dense_rows(int64_t rows, int64_t panels, int64_t depth, const float* left,
                       int64_t left_step, const float* packed, float* result, int64_t row_step) {
  constexpr int64_t kDeep = 512;
  const int64_t pieces = (depth + kDeep - 1) / kDeep;
  for (int64_t n = 0; n < pieces; ++n) {
    const int64_t from = depth * n / pieces, to = depth * (n + 1) / pieces;
    product(static_cast<int>(rows), static_cast<int>(panels), static_cast<int>(to - from),
            {left + from, left_step, 1}, {packed + from * kPanel, depth * kPanel},
            {result, row_step}, n > 0);
  }
}

}  // namespace RCNN_ISA
