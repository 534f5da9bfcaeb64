"""What a notebook needs: a trained run as an object, and data sets by name."""
