"""Checkpoints of training states: saved in the background, verified when they are read."""
