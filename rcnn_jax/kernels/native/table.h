// The functions that are compiled once for each instruction set.
#pragma once

#include "shapes.h"

// Pointers to the functions of one instruction set; see the headers that define them.
struct Table {
  const char* name;
  // winograd.h
  void (*transform_kernel)(const ConvolutionShape&, const float*, float*, int64_t, int64_t);
  int64_t (*number_of_tiles)(const ConvolutionShape&);
  void (*convolve_tiles)(const ConvolutionShape&, const float*, const float*, int64_t, int64_t,
                         float*, const float*, float*);
  void (*add_kernel_gradient)(const ConvolutionShape&, const float*, const float*, int64_t, int64_t,
                              float*, float*, bool);
  void (*finish_kernel_gradient)(const ConvolutionShape&, const float*, int64_t, int64_t, int64_t,
                                 float*);
  // images.h
  void (*normalize)(const float*, const float*, int64_t, int64_t, float*);
  void (*normalize_gradient)(const float*, const float*, const float*, int64_t, int64_t, float*);
  void (*image_moments)(const float*, int64_t, int64_t, float*);
  void (*image_gradient_sums)(const float*, const float*, const float*, int64_t, int64_t, float*);
  // response.h
  void (*respond)(const ResponseShape&, const float*, const float*, int64_t, float*, float*);
  void (*respond_gradient)(const ResponseShape&, const float*, const float*, const float*, int64_t,
                           float*, float*);
  // patches.h
  void (*pack_kernel)(const PatchShape&, const float*, float*);
  void (*convolve_patches)(const PatchShape&, const float*, const float*, float*, float*);
  void (*add_patches_gradient)(const PatchShape&, const float*, const float*, float*, float*, bool);
  int64_t (*floats_of_patches)(const PatchShape&);
  // pooling.h
  void (*pool_image)(const PoolShape&, const float*, float*, int8_t*);
  void (*pool_image_gradient)(const PoolShape&, const float*, const int8_t*, float*);
  // recurrent.h
  void (*step_forward)(const RecurrentShape&, const RecurrentForward&, int64_t,
                       const RecurrentPart&, float*);
  void (*step_backward)(const RecurrentShape&, const RecurrentBackward&, int64_t,
                        const RecurrentPart&, float*);
  // dense.h
  void (*pack_panel)(const Matrix&, int64_t, int64_t, float*);
  void (*pack_rows)(const float*, int64_t, int64_t, int64_t, int64_t, float*, float*);
  void (*pack_transposed)(const float*, int64_t, int64_t, float*);
  void (*transposed_product)(int64_t, int64_t, int64_t, const float*, const float*, float*, int64_t,
                             bool);
  void (*dense_rows)(int64_t, int64_t, int64_t, const float*, int64_t, const float*, float*,
                     int64_t);
};

extern const Table kBaseTable;
#if defined(__x86_64__)
extern const Table kAvx2Table, kAvx512Table;
#endif

// Returns the functions of the widest instruction set that this CPU has.
const Table& table();
