"""The layers and sizes of a model, found without computing it; see `python -m rcnn_jax.summary`."""
