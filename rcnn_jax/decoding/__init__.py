"""Decoding: search over output sequences and the likelihood of labellings."""
