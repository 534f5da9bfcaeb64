"""Tasks: the loss, metrics and predictions of a batch, independent of devices."""
