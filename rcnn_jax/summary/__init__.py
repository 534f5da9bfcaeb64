"""What a model is made of, found without computing it: see `python -m rcnn_jax.summary`."""
