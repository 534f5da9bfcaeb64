"""Readers of file formats, one format per module and independent of any data set."""
