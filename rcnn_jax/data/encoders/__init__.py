"""Encoders, which turn examples into arrays of one shape and are fitted on the training split."""
