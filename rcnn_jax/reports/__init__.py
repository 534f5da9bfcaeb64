"""Figures: what is measured for one and how it is drawn, see `python -m rcnn_jax.figures`."""
