"""From examples to arrays, fitted on the training split."""
