"""Weights from and to other frameworks, as plain NumPy arrays: none of them is imported."""
