// The calls of recurrent loops, and of the products outside them.
#include <cstring>

#include "calls.h"
#include "steps.h"

namespace {

constexpr int64_t kUnits = 16;  // of a panel

// Cuts a step into parts: ranges of units, and of rows where that leaves too few.
class Parts {
 public:
  Parts(const RecurrentShape& s, int64_t threads) : batch_(s.batch), panels_(s.hidden / kUnits) {
    const int64_t wanted = threads > 1 ? 4 * threads : 1;
    ranges_of_units_ = std::max<int64_t>(1, std::min(wanted, panels_ / 2));
    while (ranges_of_units_ * ranges_of_rows_ < wanted && batch_ >= 32 * ranges_of_rows_) {
      ranges_of_rows_ *= 2;
    }
  }
  int64_t count() const { return ranges_of_units_ * ranges_of_rows_; }
  int64_t most_floats(int64_t gates) const {
    const int64_t panels = ((panels_ - 1) / ranges_of_units_ + 1) * gates;
    return ((batch_ - 1) / ranges_of_rows_ + 1) * (panels + 1) * kUnits;
  }
  RecurrentPart operator[](int64_t n) const {
    const int64_t units = n / ranges_of_rows_, rows = n % ranges_of_rows_;
    const int64_t row = batch_ * rows / ranges_of_rows_;
    const int64_t panel = panels_ * units / ranges_of_units_;
    return {row, batch_ * (rows + 1) / ranges_of_rows_ - row, panel,
            panels_ * (units + 1) / ranges_of_units_ - panel};
  }

 private:
  int64_t batch_, panels_, ranges_of_units_ = 1, ranges_of_rows_ = 1;
};

// The recurrence with this kernel [hidden, gates * hidden] and mask [batch, time], or an error; it
// has no inputs yet.
ffi::Error shape_of(const Array& kernel, const Array& mask, int64_t cell, int64_t activation,
                    int64_t reverse, RecurrentShape* s) {
  const auto d = mask.dimensions(), k = kernel.dimensions();
  if (d.size() != 2 || k.size() != 2) return wrong("masks and kernels have two axes");
  if (cell < 0 || cell > 2 || activation < 0 || activation > 3) return wrong("unknown cell");
  *s = {d[0], d[1], 0, k[0], 0, 1, static_cast<CellKind>(cell), static_cast<Activation>(activation),
        reverse != 0};
  if (s->hidden < kUnits || s->hidden % kUnits != 0) return wrong("units come in multiples of 16");
  if (k[1] != s->gates() * s->hidden) return wrong("the recurrent kernel does not fit the cell");
  return ffi::Error::Success();
}

// Lengths of the memory, and of what else the backward pass needs, which not all cells have.
int64_t memory_of(const RecurrentShape& s) { return s.cell == CellKind::kLstm ? s.hidden : 0; }
int64_t extra_of(const RecurrentShape& s) { return s.cell == CellKind::kElman ? 0 : s.hidden; }
int64_t bias_of(const RecurrentShape& s) { return s.cell == CellKind::kGru ? s.hidden : 0; }

struct Arguments {
  Array x, kernel, bias, recurrent_kernel, recurrent_bias, hidden, memory, added, mask;
};

struct Results {
  Array outputs, hidden, memory, packed_inputs, packed, drive, state;
  float *before = nullptr, *opened = nullptr, *extra = nullptr;
};

ffi::Error forward_of(ffi::ThreadPool& pool, RecurrentShape s, const Arguments& in,
                      const Results& out) {
  const int64_t gates = s.gates(), width = gates * s.hidden;
  const auto d = in.x.dimensions(), e = in.added.dimensions();
  if (d.size() != 3 || e.size() != 3) return wrong("sequences have three axes");
  s.inputs = d[2];
  s.added = e[1];
  if (s.inputs < 1 || !is(in.x, {s.batch, s.time, s.inputs}) ||
      !is(in.kernel, {s.inputs, width}) || !is(in.bias, {width}) ||
      !is(in.recurrent_bias, {bias_of(s)}) || !is(in.hidden, {s.batch, s.hidden}) ||
      !is(in.memory, {s.batch, memory_of(s)}) || s.added > s.time ||
      !is(in.added, {s.batch, s.added, width})) {
    return wrong("an argument does not fit the recurrence");
  }
  const auto rooms = out.drive.dimensions();
  if (!is(out.outputs, {s.batch, s.time, s.hidden}) || !is(out.hidden, in.hidden) ||
      !is(out.memory, in.memory) || !is(out.packed_inputs, in.kernel) ||
      !is(out.packed, {s.hidden, width}) || rooms.size() != 3 || rooms[0] < 1 ||
      !is(out.drive, {rooms[0], s.batch, width}) || !is(out.state, {2, s.batch, s.hidden_step()})) {
    return wrong("a result does not fit the recurrence");
  }
  s.together = rooms[0];
  if (s.batch == 0) return ffi::Error::Success();
  RecurrentForward a;
  a.x = in.x.typed_data();
  a.packed_inputs = out.packed_inputs.typed_data();
  a.bias = in.bias.typed_data();
  a.packed = out.packed.typed_data();
  a.recurrent_bias = in.recurrent_bias.typed_data();
  a.added = in.added.typed_data();
  a.mask = in.mask.typed_data();
  a.drive = out.drive.typed_data();
  a.state = out.state.typed_data();
  a.memory = out.memory.typed_data();
  a.outputs = out.outputs.typed_data();
  a.before = out.before;
  a.opened = out.opened;
  a.extra = out.extra;
  const float *of_inputs = in.kernel.typed_data(), *recurrent = in.recurrent_kernel.typed_data();
  float *packed_inputs = out.packed_inputs.typed_data(), *packed = out.packed.typed_data();
  rcnn::for_each(pool, s.hidden / kUnits, [&](int64_t n) {
    for (int64_t gate = 0; gate < gates; ++gate) {
      const int64_t column = gate * s.hidden + n * kUnits, panel = (n * gates + gate) * kUnits;
      table().pack_panel({of_inputs + column, width, 1}, 0, s.inputs,
                         packed_inputs + panel * s.inputs);
      table().pack_panel({recurrent + column, width, 1}, 0, s.hidden, packed + panel * s.hidden);
    }
    return true;
  });
  for (int64_t row = 0; row < s.batch; ++row) {
    std::copy_n(in.hidden.typed_data() + row * s.hidden, s.hidden, a.state + row * s.hidden_step());
  }
  std::copy_n(in.memory.typed_data(), s.batch * memory_of(s), a.memory);
  const Parts parts(s, pool.num_threads());
  const bool good = rcnn::for_steps(pool, s.time, parts.count(), [&](int64_t step, int64_t n) {
    float* scratch = rcnn::Scratch::of_this_thread(parts.most_floats(gates));
    if (scratch == nullptr) return false;
    table().step_forward(s, a, step, parts[n], scratch);
    return true;
  });
  const float* last = a.state + (s.time % 2) * s.batch * s.hidden_step();
  for (int64_t row = 0; row < s.batch; ++row) {
    std::copy_n(last + row * s.hidden_step(), s.hidden, out.hidden.typed_data() + row * s.hidden);
  }
  return finished(good);
}

ffi::Error forward(ffi::ThreadPool pool, Array x, Array kernel, Array bias, Array recurrent_kernel,
                   Array recurrent_bias, Array hidden, Array memory, Array added, Array mask,
                   Out outputs, Out last_hidden, Out last_memory, Out packed_inputs, Out packed,
                   Out drive, Out state, int64_t cell, int64_t activation, int64_t reverse) {
  RecurrentShape s;
  if (auto e = shape_of(recurrent_kernel, mask, cell, activation, reverse, &s); e.failure()) {
    return e;
  }
  return forward_of(
      pool, s,
      {x, kernel, bias, recurrent_kernel, recurrent_bias, hidden, memory, added, mask},
      {*outputs, *last_hidden, *last_memory, *packed_inputs, *packed, *drive, *state});
}

ffi::Error forward_saving(ffi::ThreadPool pool, Array x, Array kernel, Array bias,
                          Array recurrent_kernel, Array recurrent_bias, Array hidden, Array memory,
                          Array added, Array mask, Out outputs, Out last_hidden, Out last_memory,
                          Out before, Out opened, Out extra, Out packed_inputs, Out packed,
                          Out drive, Out state, int64_t cell, int64_t activation, int64_t reverse) {
  RecurrentShape s;
  if (auto e = shape_of(recurrent_kernel, mask, cell, activation, reverse, &s); e.failure()) {
    return e;
  }
  if (!is(*before, *outputs) || !is(*opened, {s.batch, s.time, s.gates() * s.hidden}) ||
      !is(*extra, {s.batch, s.time, extra_of(s)})) {
    return wrong("an array does not fit the recurrence");
  }
  return forward_of(
      pool, s,
      {x, kernel, bias, recurrent_kernel, recurrent_bias, hidden, memory, added, mask},
      {*outputs, *last_hidden, *last_memory, *packed_inputs, *packed, *drive, *state, before->typed_data(),
       opened->typed_data(), extra->typed_data()});
}

ffi::Error backward(ffi::ThreadPool pool, Array opened, Array kernel, Array mask, Array before,
                    Array extra, Array cotangent, Array last_hidden, Array last_memory, Out drive,
                    Out candidate, Out hidden, Out memory, Out packed, Out state, int64_t cell,
                    int64_t activation, int64_t reverse) {
  RecurrentShape s;
  if (auto e = shape_of(kernel, mask, cell, activation, reverse, &s); e.failure()) return e;
  const int64_t width = s.gates() * s.hidden;
  if (!is(opened, {s.batch, s.time, width}) || !is(before, {s.batch, s.time, s.hidden}) ||
      !is(extra, {s.batch, s.time, extra_of(s)}) ||
      !is(cotangent, before) || !is(last_hidden, {s.batch, s.hidden}) ||
      !is(last_memory, {s.batch, memory_of(s)}) || !is(*drive, opened) ||
      !is(*candidate, {s.batch, s.time, bias_of(s)}) || !is(*hidden, last_hidden) ||
      !is(*memory, last_memory) || !is(*packed, {s.hidden, width}) ||
      !is(*state, {2, s.batch, s.gates_step()})) {
    return wrong("an array does not fit the recurrence");
  }
  if (s.batch == 0) return ffi::Error::Success();
  const RecurrentBackward a{
      cotangent.typed_data(), packed->typed_data(), mask.typed_data(),
      before.typed_data(),    opened.typed_data(),  extra.typed_data(),
      state->typed_data(),    hidden->typed_data(), memory->typed_data(),
      drive->typed_data(),    s.cell == CellKind::kGru ? candidate->typed_data() : nullptr};
  const float* from = kernel.typed_data();
  float* panels = packed->typed_data();
  rcnn::for_each(pool, s.hidden / kUnits, [&](int64_t n) {
    table().pack_panel({from + n * kUnits * width, 1, width}, 0, width, panels + n * kUnits * width);
    return true;
  });
  std::copy_n(last_hidden.typed_data(), s.batch * s.hidden, a.hidden);
  std::copy_n(last_memory.typed_data(), s.batch * memory_of(s), a.memory);
  const Parts parts(s, pool.num_threads());
  return finished(rcnn::for_steps(pool, s.time + 1, parts.count(), [&](int64_t step, int64_t n) {
    float* scratch = rcnn::Scratch::of_this_thread(parts.most_floats(1));
    if (scratch == nullptr) return false;
    table().step_backward(s, a, step, parts[n], scratch);
    return true;
  }));
}

constexpr int64_t kRowsAtOnce = 128;  // of a large left-hand matrix, whose rows stay in cache

// result = g * kernel^T of rows of g [batch, time, depth].
ffi::Error dense_back(ffi::ThreadPool pool, Array g, Array kernel, Out result, Out packed) {
  const auto d = g.dimensions(), k = kernel.dimensions();
  if (d.size() != 3 || k.size() != 2) return wrong("sequences have three axes, kernels have two");
  const int64_t rows = d[0] * d[1], depth = d[2], columns = k[0];
  if (k[1] != depth || depth < 1 || columns < 1 || columns % kUnits != 0) {
    return wrong("the kernel does not fit the sequences");
  }
  if (!is(*result, {d[0], d[1], columns}) || !is(*packed, kernel)) {
    return wrong("the result does not fit");
  }
  const float *from = g.typed_data(), *right = kernel.typed_data();
  float *panels = packed->typed_data(), *to = result->typed_data();
  rcnn::for_each(pool, columns / kUnits, [&](int64_t n) {
    table().pack_panel({right + n * kUnits * depth, 1, depth}, 0, depth,
                       panels + n * kUnits * depth);
    return true;
  });
  // As many pieces for each thread, in multiples of 8 rows.
  const int64_t threads = pool.num_threads(), blocks = (rows + 7) / 8;
  const int64_t wanted = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
  const int64_t pieces = std::min(blocks, (wanted + threads - 1) / threads * threads);
  return finished(rcnn::for_each(pool, pieces, [&](int64_t n) {
    const int64_t first = blocks * n / pieces * 8;
    const int64_t count = std::min(rows, blocks * (n + 1) / pieces * 8) - first;
    table().dense_rows(count, columns / kUnits, depth, from + first * depth, depth, panels,
                       to + first * columns, columns);
    return true;
  }));
}

// The gradients of both kernels of a recurrence, sums over batch and time of x^T g and before^T h,
// and the sums of g and of c. Here g are the cotangents `slopes` of what the inputs contribute, and
// h those of the recurrent products: the same, but for the candidate of a GRU, where they are c.
ffi::Error kernel_gradients(ffi::ThreadPool pool, Array x, Array before, Array slopes,
                            Array candidate, Out gradient, Out sums, Out recurrent_gradient,
                            Out recurrent_sums, Out packed_x, Out packed_before) {
  const auto d = x.dimensions(), b = before.dimensions(), g = slopes.dimensions();
  const auto c = candidate.dimensions();
  if (d.size() != 3 || b.size() != 3 || g.size() != 3 || c.size() != 3) {
    return wrong("sequences have three axes");
  }
  const int64_t batch = d[0], time = d[1], inputs = d[2], hidden = b[2], width = g[2];
  if (inputs < 1 || hidden < kUnits || hidden % kUnits != 0 || width % hidden != 0 ||
      (c[2] != 0 && c[2] != hidden) || c[2] > width || !is(before, {batch, time, hidden}) ||
      !is(slopes, {batch, time, width}) || !is(candidate, {batch, time, c[2]})) {
    return wrong("the gradient does not fit the sequences");
  }
  const int64_t depth = batch * time;
  if (!is(*gradient, {inputs, width}) || !is(*sums, {width}) ||
      !is(*recurrent_gradient, {hidden, width}) || !is(*recurrent_sums, {c[2]}) ||
      !is(*packed_x, {inputs + kUnits, depth}) || !is(*packed_before, {hidden + kUnits, depth})) {
    return wrong("the result does not fit");
  }
  float *to = gradient->typed_data(), *sum = sums->typed_data();
  float *recurrent_to = recurrent_gradient->typed_data();
  float *recurrent_sum = recurrent_sums->typed_data();
  std::fill_n(sum, width, 0.0f);
  std::fill_n(recurrent_sum, c[2], 0.0f);
  if (depth == 0) {
    std::fill_n(to, inputs * width, 0.0f);
    std::fill_n(recurrent_to, hidden * width, 0.0f);
    return ffi::Error::Success();
  }
  const float *rows_x = x.typed_data(), *rows_before = before.typed_data();
  const float *slope = slopes.typed_data(), *other = candidate.typed_data();
  float *left_x = packed_x->typed_data(), *left_before = packed_before->typed_data();
  constexpr int64_t kPanels = 8, kDeep = 256;
  const int64_t pieces = (depth + kDeep - 1) / kDeep;
  const auto first_of = [&](int64_t piece) { return depth * piece / pieces; };
  // Packed blocks of rows are full: fewer than 16 numbers are added to each row.
  const int64_t wide_x = inputs + kUnits, wide_before = hidden + kUnits;
  rcnn::for_each(pool, 2 * pieces, [&](int64_t n) {
    const int64_t from = first_of(n / 2), deep = first_of(n / 2 + 1) - from;
    if (n % 2 == 0) {
      table().pack_transposed(rows_x + from * inputs, inputs, deep, left_x + from * wide_x);
    } else {
      table().pack_transposed(rows_before + from * hidden, hidden, deep,
                              left_before + from * wide_before);
    }
    return true;
  });
  const int64_t panels = hidden / kUnits, of_gate = (panels + kPanels - 1) / kPanels;
  return finished(rcnn::for_each(pool, width / hidden * of_gate, [&](int64_t n) {
    float* right = rcnn::Scratch::of_this_thread(kPanels * kUnits * kDeep);
    if (right == nullptr) return false;
    const int64_t gate = n / of_gate, begin = n % of_gate * kPanels;
    const int64_t count = std::min(kPanels, panels - begin);
    const int64_t column = gate * hidden + begin * kUnits;
    const bool separate = c[2] != 0 && (gate + 1) * hidden == width;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int64_t from = first_of(piece), end = first_of(piece + 1), deep = end - from;
      const bool add = piece > 0;
      table().pack_rows(slope + column, width, from, end, count, right, sum + column);
      table().transposed_product(inputs, count, deep, left_x + from * wide_x, right, to + column,
                                 width, add);
      if (separate) {
        table().pack_rows(other + begin * kUnits, hidden, from, end, count, right,
                          recurrent_sum + begin * kUnits);
      }
      table().transposed_product(hidden, count, deep, left_before + from * wide_before, right,
                                 recurrent_to + column, width, add);
    }
    return true;
  }));
}

}  // namespace

#pragma GCC visibility push(default)
#define CELL_ATTRIBUTES \
  .Attr<int64_t>("cell").Attr<int64_t>("activation").Attr<int64_t>("reverse")

#define FORWARD_ARGUMENTS                                                             \
  .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()      \
  .Arg<Array>().Arg<Array>().Arg<Array>()

XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnRecurrence, forward,
                              BIND() FORWARD_ARGUMENTS
                                  .Ret<Array>().Ret<Array>().Ret<Array>().Ret<Array>()
                                  .Ret<Array>().Ret<Array>().Ret<Array>() CELL_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnRecurrenceSaving, forward_saving,
                              BIND() FORWARD_ARGUMENTS
                                  .Ret<Array>().Ret<Array>().Ret<Array>().Ret<Array>()
                                  .Ret<Array>().Ret<Array>().Ret<Array>().Ret<Array>()
                                  .Ret<Array>().Ret<Array>() CELL_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnRecurrenceBack, backward,
                              BIND()
                                  .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
                                  .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
                                  .Ret<Array>().Ret<Array>().Ret<Array>().Ret<Array>()
                                  .Ret<Array>().Ret<Array>() CELL_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnDenseBack, dense_back,
                              BIND().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(RcnnRecurrentGradients, kernel_gradients,
                              BIND()
                                  .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
                                  .Ret<Array>().Ret<Array>().Ret<Array>().Ret<Array>()
                                  .Ret<Array>().Ret<Array>());
#pragma GCC visibility pop
