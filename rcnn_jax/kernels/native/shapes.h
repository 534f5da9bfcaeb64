// Shapes that the files of all instruction sets share.
#pragma once

#include <cstdint>

// A convolution of stride 1 that keeps the spatial shape.
struct ConvolutionShape {
  int64_t batch, height, width, inputs, outputs;
};

// A local response normalization over `size` channels, d = k + alpha / size sum, to the power of
// -quarters / 4, of what is rectified before or is not.
struct ResponseShape {
  int64_t channels;
  int size, quarters;
  bool rectify;
  float alpha, k;
};

// A pool over windows of an image.
struct PoolShape {
  int64_t height, width, channels, pooled_height, pooled_width;
  int64_t window_height, window_width, stride_height, stride_width, pad_top, pad_left;
};

enum class CellKind : int64_t { kElman = 0, kGru = 1, kLstm = 2 };
enum class Activation : int64_t { kTanh = 0, kRelu = 1, kSigmoid = 2, kIdentity = 3 };

// A recurrence over sequences; `activation` is that of an Elman network, the gated cells have tanh.
struct RecurrentShape {
  // `added`: steps with a further contribution; `together`: steps whose inputs are multiplied at once
  int64_t batch, time, inputs, hidden, added, together;
  CellKind cell;
  Activation activation;
  bool reverse;
  int64_t gates() const { return cell == CellKind::kLstm ? 4 : cell == CellKind::kGru ? 3 : 1; }
  // Rows of matrices that are read again at every step begin 64 bytes beyond a multiple of 4 KB:
  // otherwise all of them would fall into the same few lines of the first cache.
  int64_t hidden_step() const { return hidden + 16; }
  int64_t gates_step() const { return gates() * hidden + 16; }
};

// A part of a step: rows of the batch, and panels of 16 units with all their gates.
struct RecurrentPart {
  int64_t first_row, rows, first_panel, panels;
};

// Arrays of the forward pass; those of the backward pass only are null in inference.
struct RecurrentForward {
  const float *x;               // [batch, time, inputs]
  const float *packed_inputs;   // [hidden / 16][gates][inputs][16], the kernel of the inputs
  const float *bias;            // [gates * hidden]
  const float *packed;          // [hidden / 16][gates][hidden][16], the recurrent kernel
  const float *recurrent_bias;  // [hidden] of the candidate of a GRU
  const float *added;           // [batch, added, gates * hidden], to what the inputs contribute
  const float *mask;            // [batch, time]
  float *drive;                 // [parts of a step][together][rows][units * gates]
  float *state;                 // [2][batch][hidden_step], hidden vectors, in turns
  float *memory;                // [batch, hidden] of an LSTM
  float *outputs;               // [batch, time, hidden]
  float *before;                // [batch, time, hidden], hidden vectors before each step
  float *opened;                // [batch, time, gates * hidden], gates and activations
  float *extra;  // [batch, time, hidden], memories before a step or products of a candidate
};

// Arrays of the backward pass.
struct RecurrentBackward {
  const float *cotangent;              // [batch, time, hidden], of the outputs
  const float *packed;                 // [hidden / 16][gates * hidden][16], transposed
  const float *mask;                   // as in the forward pass, like the next three
  const float *before, *opened, *extra;
  float *state;                        // [2][batch][gates_step], cotangents of products, in turns
  float *hidden, *memory;              // [batch, hidden], cotangents of the carry
  float *drive;                        // [batch, time, gates * hidden]; may be `opened`
  float *candidate;                    // [batch, time, hidden], of a GRU's product
};

// A matrix in memory, element (row, column) at data[row * row_step + column * column_step].
struct Matrix {
  const float *data;
  int64_t row_step, column_step;
};

// A convolution of images with few channels, stride 1, that keeps the spatial shape.
struct PatchShape {
  int64_t height, width, inputs, outputs, window_height, window_width;
  int64_t depth() const { return window_height * window_width * inputs; }
};
