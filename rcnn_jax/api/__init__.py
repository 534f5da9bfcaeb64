"""The interface for notebooks: a trained run as an object, and data sets by name."""
