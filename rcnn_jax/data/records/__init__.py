"""Prepared records: the only room that names TFDS or ArrayRecord."""
