"""Compiled kernels in C++, called through `jax.ffi`, beside the forms that XLA compiles."""
