"""Figures: what is measured and how it is drawn, one file each."""
