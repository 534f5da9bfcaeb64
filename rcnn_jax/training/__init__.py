"""Training: state, steps, optimisers, devices, checkpoints and log output."""
