"""Sentences with labels, or with answers."""
