"""The HTML page about a run; see `python -m rcnn_jax.report`."""
