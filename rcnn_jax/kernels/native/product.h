// The micro-kernel: products of small blocks of matrices, held in registers.
//
// All products of the library go through `product`: those of minimal filtering in three passes, and
// those of a recurrence with its kernel and with the transposed kernel.
//
// The right-hand matrix is stored in panels of 16 columns, [panels][depth][16], whatever the
// instruction set, so that a packed kernel does not depend on it.
#pragma once

#include "vector.h"

namespace RCNN_ISA {

constexpr int kPanel = 16;
constexpr int kVectors = kPanel / kLanes;  // of a panel

#if defined(__AVX512F__)
constexpr int kRows = 8, kPanels = 3;  // 24 sums, 3 columns of the right, 5 registers left
#elif defined(__AVX2__)
constexpr int kRows = 6, kPanels = 1;  // 12 sums of 16 registers
#elif defined(__aarch64__)
constexpr int kRows = 6, kPanels = 1;  // 24 sums of 32 registers
#else
constexpr int kRows = 3, kPanels = 1;  // 12 sums of 16 registers
#endif

// A left-hand matrix, element (row, depth) at data[row * row_step + depth * depth_step].
struct Left {
  const float* data;
  ptrdiff_t row_step, depth_step;
};

// A right-hand matrix in panels, each `panel_step` floats after the one before.
struct Right {
  const float* data;
  ptrdiff_t panel_step;
};

// A result, element (row, column) at data[row * row_step + column].
struct Result {
  float* data;
  ptrdiff_t row_step;
};

// A sum over more depth than this is cut into parts, which are added up afterwards: the rounding
// errors of a long sum grow with its root, and those of its parts stay small. A convolution, whose
// transforms make errors larger, has shorter parts than a recurrence.
constexpr int kLongestSum = 48, kLongestSumOfLoop = 128;

template <int ROWS, int PANELS>
static inline void block(int depth, Left left, Right right, Result result, bool add) {
  constexpr int columns = PANELS * kVectors;
  Vec sum[ROWS][columns];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < columns; ++c) {
      sum[r][c] = Vec{};
    }
  }
  // Rows of a wide result lie far apart, and are needed at the end.
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 16
    for (int p = 0; p < PANELS; ++p) {
      __builtin_prefetch(result.data + r * result.row_step + p * kPanel, 1);
    }
  }
  const float* a = left.data;
  const float* b = right.data;
  for (int k = 0; k < depth; ++k) {
    Vec column[columns];
#pragma GCC unroll 16
    for (int c = 0; c < columns; ++c) {
      column[c] = load(b + (c / kVectors) * right.panel_step + (c % kVectors) * kLanes);
    }
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const Vec value = all(a[r * left.row_step]);
#pragma GCC unroll 16
      for (int c = 0; c < columns; ++c) sum[r][c] += value * column[c];
    }
    a += left.depth_step;
    b += kPanel;
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < columns; ++c) {
      // Added at the end, not at the start: the sum of this block is rounded while it is small.
      float* to = result.data + r * result.row_step + c * kLanes;
      store(to, add ? load(to) + sum[r][c] : sum[r][c]);
    }
  }
}

template <int PANELS>
static inline void block_of_rows(int rows, int depth, Left left, Right right, Result result,
                                 bool add) {
  switch (rows) {
    case 1: return block<1, PANELS>(depth, left, right, result, add);
    case 2: return block<2, PANELS>(depth, left, right, result, add);
    case 3: return block<3, PANELS>(depth, left, right, result, add);
    case 4: if constexpr (kRows > 4) return block<4, PANELS>(depth, left, right, result, add);
    case 5: if constexpr (kRows > 5) return block<5, PANELS>(depth, left, right, result, add);
    case 6: if constexpr (kRows > 6) return block<6, PANELS>(depth, left, right, result, add);
    case 7: if constexpr (kRows > 7) return block<7, PANELS>(depth, left, right, result, add);
  }
}

template <int PANELS>
static inline void part(int rows, int depth, Left left, Right right, Result result, bool add) {
  int row = 0;
  for (; row + kRows <= rows; row += kRows) {
    block<kRows, PANELS>(depth, {left.data + row * left.row_step, left.row_step, left.depth_step},
                         right, {result.data + row * result.row_step, result.row_step}, add);
  }
  block_of_rows<PANELS>(rows - row, depth,
                        {left.data + row * left.row_step, left.row_step, left.depth_step}, right,
                        {result.data + row * result.row_step, result.row_step}, add);
}

// All rows take their turn with a part of the columns that the first cache holds.
template <int PANELS>
static inline void rows_of_panels(int rows, int depth, Left left, Right right, Result result,
                                  bool add, int longest) {
  const int parts = depth <= longest ? 1 : (depth + longest - 1) / longest;
  for (int n = 0; n < parts; ++n) {
    const int begin = depth * n / parts, end = depth * (n + 1) / parts;
    part<PANELS>(rows, end - begin,
                 {left.data + begin * left.depth_step, left.row_step, left.depth_step},
                 {right.data + begin * kPanel, right.panel_step}, result, add || n > 0);
  }
}

// Computes result = left * right, or adds it to the result, for all rows and panels. The order of the
// sum over the depth is the same however many rows there are: the same element always gets the same
// bits.
static inline void product(int rows, int panels, int depth, Left left, Right right, Result result,
                           bool add, int longest = kLongestSum) {
  int panel = 0;
  // Two panels fill the units for multiplication as three do, one does not: four are two and two.
  for (; panel + kPanels <= panels && (kPanels == 1 || panels - panel != 4); panel += kPanels) {
    rows_of_panels<kPanels>(rows, depth, left,
                            {right.data + panel * right.panel_step, right.panel_step},
                            {result.data + panel * kPanel, result.row_step}, add, longest);
  }
  if constexpr (kPanels > 1) {
    for (; panel + 2 <= panels; panel += 2) {
      rows_of_panels<2>(rows, depth, left,
                        {right.data + panel * right.panel_step, right.panel_step},
                        {result.data + panel * kPanel, result.row_step}, add, longest);
    }
    if (panel < panels) {
      rows_of_panels<1>(rows, depth, left,
                        {right.data + panel * right.panel_step, right.panel_step},
                        {result.data + panel * kPanel, result.row_step}, add, longest);
    }
  }
}

}  // namespace RCNN_ISA
