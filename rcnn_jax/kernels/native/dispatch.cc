// The choice of the instruction set when the library is loaded.
#include <cstdlib>
#include <cstring>

#include "table.h"

const Table& table() {
  static const Table& chosen = []() -> const Table& {
#if defined(__x86_64__)
    const char* limit = std::getenv("RCNN_JAX_KERNELS_ISA");
    const bool narrow = limit != nullptr && std::strcmp(limit, "base") == 0;
    const bool no_512 = limit != nullptr && std::strcmp(limit, "avx2") == 0;
    if (!narrow && !no_512 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl")) {
      return kAvx512Table;
    }
    if (!narrow && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      return kAvx2Table;
    }
#endif
    return kBaseTable;
  }();
  return chosen;
}

#pragma GCC visibility push(default)
extern "C" const char* rcnn_instruction_set() { return table().name; }
#pragma GCC visibility pop
