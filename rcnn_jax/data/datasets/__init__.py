"""Data sets, each a `DatasetSpec`, in a folder by modality."""
