// One time step of recurrent cells, forward and backward.
//
// A step is cut into parts of rows and units. A part multiplies the hidden vectors of its rows by
// the columns of its units, of all gates, and opens the gates while the products are in cache.
// Every number is computed in the same way whatever the parts are.
#pragma once

#include "functions.h"
#include "product.h"
#include "shapes.h"

namespace RCNN_ISA {

constexpr int64_t kDepth = 512;  // of the products that are summed in registers

// Floats between rows of products, which would otherwise share the same few lines of the first cache.
constexpr int64_t kApart = kPanel;

// As `product`, cut along the depth so that the columns at hand stay in the second cache. Sums of
// sums also round less. Calls `between(n, pieces)` before each piece.
template <typename Between>
static inline void long_product(int64_t rows, int64_t panels, int64_t depth, Left left, Right right,
                                Result result, Between&& between) {
  const int64_t pieces = (depth + kDepth - 1) / kDepth;
  for (int64_t n = 0; n < pieces; ++n) {
    between(n, pieces);
    const int64_t from = depth * n / pieces, to = depth * (n + 1) / pieces;
    product(static_cast<int>(rows), static_cast<int>(panels), static_cast<int>(to - from),
            {left.data + from * left.depth_step, left.row_step, left.depth_step},
            {right.data + from * kPanel, right.panel_step}, result, n > 0, kLongestSumOfLoop);
  }
}

static inline Vec activated(Activation kind, Vec z) {
  switch (kind) {
    case Activation::kTanh: return hyperbolic_tangent(z);
    case Activation::kSigmoid: return sigmoid(z);
    case Activation::kRelu: return Vec{} > z ? Vec{} : z;  // NaN stays
    default: return z;
  }
}

// The derivative of an activation from its value.
static inline Vec slope(Activation kind, Vec a) {
  switch (kind) {
    case Activation::kTanh: return all(1.0f) - a * a;
    case Activation::kSigmoid: return a * (all(1.0f) - a);
    case Activation::kRelu: return a > Vec{} ? all(1.0f) : Vec{};
    default: return all(1.0f);
  }
}

// Multiplies the inputs of step `step` and of those after it, `together` in all, by the kernel.
//
// All steps at once would be written to memory and read again; one step at a time would read the
// kernel from memory for a few rows. Where there are few sequences the rows are those of steps.
static void multiply_inputs(const RecurrentShape& s, const RecurrentForward& a, int64_t step,
                            const RecurrentPart& part, float* drive) {
  const int64_t gates = s.gates(), panels = part.panels * gates, wide = panels * kPanel;
  const int64_t left = s.time - step, steps = left < s.together ? left : s.together;
  const int64_t t = s.reverse ? s.time - 1 - step : step, next = s.reverse ? -s.inputs : s.inputs;
  const float* x = a.x + (part.first_row * s.time + t) * s.inputs;
  const float* kernel = a.packed_inputs + part.first_panel * gates * s.inputs * kPanel;
  for (int64_t panel = 0; panel < panels;) {
    // As `product` cuts panels, with all steps for each cut.
    const int64_t rest = panels - panel;
    const int64_t now = rest < kPanels ? rest : rest == 4 && kPanels > 2 ? 2 : kPanels;
    const Right right{kernel + panel * s.inputs * kPanel, s.inputs * kPanel};
    const auto nothing = [](int64_t, int64_t) {};
    float* to = drive + panel * kPanel;
    if (part.rows < kRows) {
      for (int64_t row = 0; row < part.rows; ++row) {
        long_product(steps, now, s.inputs, {x + row * s.time * s.inputs, next, 1}, right,
                     {to + row * wide, part.rows * wide}, nothing);
      }
    } else {
      for (int64_t n = 0; n < steps; ++n) {
        long_product(part.rows, now, s.inputs, {x + n * next, s.time * s.inputs, 1}, right,
                     {to + n * part.rows * wide, wide}, nothing);
      }
    }
    panel += now;
  }
}

// `scratch` has room for rows * (panels * gates + 1) * 16 floats.
static void step_forward(const RecurrentShape& s, const RecurrentForward& a, int64_t step,
                         const RecurrentPart& part, float* scratch) {
  const int64_t gates = s.gates(), hidden = s.hidden, width = gates * hidden;
  const int64_t t = s.reverse ? s.time - 1 - step : step;
  const int64_t wide = part.panels * gates * kPanel, panel = part.first_panel * gates;
  const float* old_states = a.state + (step % 2) * s.batch * s.hidden_step();
  float* new_states = a.state + ((step + 1) % 2) * s.batch * s.hidden_step();
  float* drives = a.drive + (part.first_row * width + part.rows * panel * kPanel) * s.together;
  if (step % s.together == 0) multiply_inputs(s, a, step, part, drives);
  const float* of_inputs = drives + step % s.together * part.rows * wide;
  long_product(part.rows, part.panels * gates, hidden,
               {old_states + part.first_row * s.hidden_step(), s.hidden_step(), 1},
               {a.packed + panel * hidden * kPanel, hidden * kPanel}, {scratch, wide + kApart},
               [](int64_t, int64_t) {});
  const int64_t first = part.first_panel * kPanel, units = part.panels * kPanel;
  for (int64_t n = 0; n < part.rows; ++n) {
    const int64_t row = part.first_row + n, here = row * s.time + t;
    const float* old_state = old_states + row * s.hidden_step() + first;
    float* new_state = new_states + row * s.hidden_step() + first;
    float* output = a.outputs + here * hidden + first;
    float* before = a.before == nullptr ? nullptr : a.before + here * hidden + first;
    const bool real = a.mask[here] != 0;
    for (int64_t u = 0; u < units; u += kLanes) {
      if (before != nullptr) store(before + u, load(old_state + u));
      if (!real) {
        store(new_state + u, load(old_state + u));
        store(output + u, Vec{});
        continue;
      }
      // Columns of a panel of units lie gate after gate.
      const int64_t column = u / kPanel * gates * kPanel + u % kPanel;
      const int64_t unit = first + u;
      const float *sum = scratch + n * (wide + kApart) + column;
      const float* input = of_inputs + n * wide + column;
      const float* added =
          t < s.added ? a.added + (row * s.added + t) * width + unit : nullptr;
      const auto drive = [&](int64_t gate) {
        const Vec value = load(input + gate * kPanel) + load(a.bias + gate * hidden + unit);
        return added == nullptr ? value : value + load(added + gate * hidden);
      };
      float* opened = a.opened == nullptr ? nullptr : a.opened + here * width + unit;
      float* extra = a.extra == nullptr ? nullptr : a.extra + here * hidden + unit;
      Vec value;
      if (s.cell == CellKind::kLstm) {
        const Vec i = sigmoid(drive(0) + load(sum));
        const Vec f = sigmoid(drive(1) + load(sum + kPanel));
        const Vec g = hyperbolic_tangent(drive(2) + load(sum + 2 * kPanel));
        const Vec o = sigmoid(drive(3) + load(sum + 3 * kPanel));
        float* memory = a.memory + row * hidden + unit;
        const Vec old = load(memory), now = f * old + i * g;
        store(memory, now);
        value = o * hyperbolic_tangent(now);
        if (opened != nullptr) {
          store(opened, i);
          store(opened + hidden, f);
          store(opened + 2 * hidden, g);
          store(opened + 3 * hidden, o);
          store(extra, old);
        }
      } else if (s.cell == CellKind::kGru) {
        const Vec r = sigmoid(drive(0) + load(sum));
        const Vec z = sigmoid(drive(1) + load(sum + kPanel));
        const Vec m = load(sum + 2 * kPanel) + load(a.recurrent_bias + unit);
        const Vec c = hyperbolic_tangent(drive(2) + r * m);
        value = (all(1.0f) - z) * c + z * load(old_state + u);
        if (opened != nullptr) {
          store(opened, r);
          store(opened + hidden, z);
          store(opened + 2 * hidden, c);
          store(extra, m);
        }
      } else {
        value = activated(s.activation, drive(0) + load(sum));
        if (opened != nullptr) store(opened, value);
      }
      store(new_state + u, value);
      store(output + u, value);
    }
  }
}

// Steps backward count from 0 at the last step forward; step `time` only takes cotangents back to
// the first carry. `scratch` has room for rows * (panels + 1) * 16 floats.
static void step_backward(const RecurrentShape& s, const RecurrentBackward& a, int64_t step,
                          const RecurrentPart& part, float* scratch) {
  const int64_t hidden = s.hidden, width = s.gates() * hidden, wide = part.panels * kPanel;
  const int64_t t = s.reverse ? step : s.time - 1 - step;
  const float* known = a.state + ((step + 1) % 2) * s.batch * s.gates_step();
  float* found = a.state + (step % 2) * s.batch * s.gates_step();
  const int64_t first = part.first_panel * kPanel;
  // The runs of memory that follow are too short for the hardware to see them coming.
  const auto prefetch = [&](const float* row) {
    for (int64_t u = 0; u < wide; u += kPanel) __builtin_prefetch(row + first + u, 0, 2);
  };
  const auto prefetch_rows = [&](int64_t n, int64_t pieces) {
    if (step == s.time) return;
    for (int64_t row = part.rows * n / pieces; row < part.rows * (n + 1) / pieces; ++row) {
      const int64_t here = (part.first_row + row) * s.time + t;
      for (int64_t gate = 0; gate < s.gates(); ++gate) {
        prefetch(a.opened + here * width + gate * hidden);
      }
      prefetch(a.cotangent + here * hidden);
      if (s.cell != CellKind::kElman) prefetch(a.extra + here * hidden);
      if (s.cell == CellKind::kGru) prefetch(a.before + here * hidden);
    }
  };
  if (step > 0) {
    long_product(part.rows, part.panels, width,
                 {known + part.first_row * s.gates_step(), s.gates_step(), 1},
                 {a.packed + part.first_panel * width * kPanel, width * kPanel}, {scratch, wide + kApart},
                 prefetch_rows);
  }
  const Vec one = all(1.0f);
  for (int64_t n = 0; n < part.rows; ++n) {
    const int64_t row = part.first_row + n, here = row * s.time + t;
    const bool real = step < s.time && a.mask[here] != 0;
    for (int64_t u = 0; u < wide; u += kLanes) {
      const int64_t unit = first + u;
      // What is handed on past the product, and then the cotangent of the hidden vector.
      float* hand_on = a.hidden + row * hidden + unit;
      Vec slope_h = load(hand_on);
      if (step > 0) slope_h += load(scratch + n * (wide + kApart) + u);
      if (step == s.time) {
        store(hand_on, slope_h);
        continue;
      }
      float* drive = a.drive + here * width + unit;
      float* product = found + row * s.gates_step() + unit;
      float* candidate = a.candidate == nullptr ? nullptr : a.candidate + here * hidden + unit;
      if (!real) {
        store(hand_on, slope_h);
        for (int64_t gate = 0; gate < s.gates(); ++gate) {
          store(drive + gate * hidden, Vec{});
          store(product + gate * hidden, Vec{});
        }
        if (candidate != nullptr) store(candidate, Vec{});
        continue;
      }
      slope_h += load(a.cotangent + here * hidden + unit);
      const float* opened = a.opened + here * width + unit;
      if (s.cell == CellKind::kLstm) {
        const Vec i = load(opened), f = load(opened + hidden), g = load(opened + 2 * hidden);
        const Vec o = load(opened + 3 * hidden), old = load(a.extra + here * hidden + unit);
        const Vec squashed = hyperbolic_tangent(f * old + i * g);
        float* memory = a.memory + row * hidden + unit;
        const Vec slope_c = load(memory) + slope_h * o * (one - squashed * squashed);
        const Vec to_i = slope_c * g * (i * (one - i)), to_f = slope_c * old * (f * (one - f));
        const Vec to_g = slope_c * i * (one - g * g);
        const Vec to_o = slope_h * squashed * (o * (one - o));
        store(memory, slope_c * f);
        store(hand_on, Vec{});
        store(drive, to_i);
        store(drive + hidden, to_f);
        store(drive + 2 * hidden, to_g);
        store(drive + 3 * hidden, to_o);
        store(product, to_i);
        store(product + hidden, to_f);
        store(product + 2 * hidden, to_g);
        store(product + 3 * hidden, to_o);
      } else if (s.cell == CellKind::kGru) {
        const Vec r = load(opened), z = load(opened + hidden), c = load(opened + 2 * hidden);
        const Vec m = load(a.extra + here * hidden + unit);
        const Vec old = load(a.before + here * hidden + unit);
        const Vec to_c = slope_h * (one - z) * (one - c * c);
        const Vec to_z = slope_h * (old - c) * (z * (one - z));
        const Vec to_r = to_c * m * (r * (one - r)), to_m = to_c * r;
        store(hand_on, slope_h * z);
        store(drive, to_r);
        store(drive + hidden, to_z);
        store(drive + 2 * hidden, to_c);
        store(product, to_r);
        store(product + hidden, to_z);
        store(product + 2 * hidden, to_m);
        store(candidate, to_m);
      } else {
        const Vec to_z = slope_h * slope(s.activation, load(opened));
        store(hand_on, Vec{});
        store(drive, to_z);
        store(product, to_z);
      }
    }
  }
}

}  // namespace RCNN_ISA
