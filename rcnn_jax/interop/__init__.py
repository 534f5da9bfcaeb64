"""Weights from and to other frameworks as NumPy arrays; torch is imported only for its files."""
