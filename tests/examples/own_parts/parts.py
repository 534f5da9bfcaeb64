"""A metric and a writer of one's own, for a shipped task."""

import json

import jax.numpy as jnp


class Confidence:
    """Mean probability of the class that is named, among the answers that are right."""

    def sums(self, predictions, batch):
        p = predictions["probabilities"]
        right = batch["mask"] * (jnp.argmax(p, -1) == batch["label"])
        return (right * p.max(-1)).sum(), right.sum()

    def value(self, totals):
        return totals[0] / totals[1] if totals[1] else 0.0


class Lines:
    def __init__(self, folder):
        self.path = folder / "lines.txt"

    def write(self, entry):
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def close(self):
        pass
