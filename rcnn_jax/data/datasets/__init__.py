"""Data sets, a `DatasetSpec` each; none is imported by another."""
