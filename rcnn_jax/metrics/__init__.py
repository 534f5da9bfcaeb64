"""Metrics that are counted on whole predictions, or as sums inside a compiled step."""
