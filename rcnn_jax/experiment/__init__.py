"""Experiments: components built from a config, and runs that train or evaluate them."""
