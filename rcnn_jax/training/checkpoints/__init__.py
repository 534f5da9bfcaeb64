"""States on disk: saved while training goes on, verified when they are read."""
