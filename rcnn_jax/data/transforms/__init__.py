"""Transforms of images and of what belongs to them, by role, inside the compiled step."""
