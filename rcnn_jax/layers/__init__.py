"""Layers: one idea per file, pure functions on arrays first, thin Linen modules on top."""
