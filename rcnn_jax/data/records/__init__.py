"""Prepared records; the only package that imports TFDS or ArrayRecord."""
