#define RCNN_ISA avx2
#define RCNN_TABLE kAvx2Table
#define RCNN_NAME "AVX2"
#include "table.inl"
