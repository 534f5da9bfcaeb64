"""Compiled kernels in C++, called through `jax.ffi`, and the choice between them and XLA's forms."""
