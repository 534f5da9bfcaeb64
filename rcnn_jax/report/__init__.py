"""The page of a run, see `python -m rcnn_jax.report`."""
