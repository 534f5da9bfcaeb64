// What this library was built from: the digest of the sources (build.py) and the version of jaxlib
// whose headers were included, with a space between. The build defines it.
#ifndef RCNN_BUILT_FROM
#define RCNN_BUILT_FROM "unknown 0"
#endif

#pragma GCC visibility push(default)
extern "C" const char* rcnn_built_from() { return RCNN_BUILT_FROM; }
#pragma GCC visibility pop
