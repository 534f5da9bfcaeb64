#define RCNN_ISA avx512
#define RCNN_TABLE kAvx512Table
#define RCNN_NAME "AVX-512"
#include "table.inl"
