"""Search over outputs, and the likelihood of what is sought."""
