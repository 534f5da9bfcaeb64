"""Sentences with labels or answers."""
