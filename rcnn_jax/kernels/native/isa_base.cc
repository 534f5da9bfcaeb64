#define RCNN_ISA base
#define RCNN_TABLE kBaseTable
#define RCNN_NAME "the compiler's vectors"
#include "table.inl"
