"""Extraction of features from pictures by a pretrained network into one file."""
