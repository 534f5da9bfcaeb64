"""Figures: each file measures one figure and draws it."""
