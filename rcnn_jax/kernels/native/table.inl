// Defines the table RCNN_TABLE of the instruction set RCNN_ISA that this file is compiled for.
#include "table.h"

#include "dense.h"
#include "images.h"
#include "patches.h"
#include "pooling.h"
#include "recurrent.h"
#include "response.h"
#include "winograd.h"

const Table RCNN_TABLE = {
    RCNN_NAME,
    RCNN_ISA::transform_kernel,
    RCNN_ISA::number_of_tiles,
    RCNN_ISA::convolve_tiles,
    RCNN_ISA::add_kernel_gradient,
    RCNN_ISA::finish_kernel_gradient,
    RCNN_ISA::normalize,
    RCNN_ISA::normalize_gradient,
    RCNN_ISA::image_moments,
    RCNN_ISA::image_gradient_sums,
    RCNN_ISA::respond,
    RCNN_ISA::respond_gradient,
    RCNN_ISA::pack_kernel,
    RCNN_ISA::convolve_patches,
    RCNN_ISA::add_patches_gradient,
    RCNN_ISA::floats_of_patches,
    RCNN_ISA::pool_image,
    RCNN_ISA::pool_image_gradient,
    RCNN_ISA::step_forward,
    RCNN_ISA::step_backward,
    RCNN_ISA::pack_panel,
    RCNN_ISA::pack_rows,
    RCNN_ISA::pack_transposed,
    RCNN_ISA::transposed_product,
    RCNN_ISA::dense_rows,
};
