"""Figures of merit that are counted on whole predictions."""
