"""Compiled kernels in C++, called through `jax.ffi`, and the rules of where they are used."""
