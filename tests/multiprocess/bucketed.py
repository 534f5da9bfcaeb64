"""What jobs train on batches of sentences of about one length: little to compile."""

import pathlib
import sys

import flax.linen as nn
import jax.numpy as jnp

from rcnn_jax.data.datasets.text.bookings import bookings
from rcnn_jax.layers.dropout import Dropout

sys.path.append(str(pathlib.Path(__file__).parent))  # where the job finds what is named below

# Buckets of 15 and 30 sentences, and splits of 13 and 14: none is a whole number of batches.
FEW = bookings(splits={"train": 45, "validation": 13, "test": 14})


class Words(nn.Module):
    """Tags each word by itself and by how many words the sentence has."""

    classes: int
    vocabulary: int
    encoding: str
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x, *, train: bool, lengths=None):
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.Embed(self.vocabulary, 6, **types)(jnp.maximum(x, 0))
        x = x + nn.Dense(6, **types)(lengths[:, None] / 26)[:, None]
        return nn.Dense(self.classes, **types)(Dropout(0.3)(jnp.tanh(x), train=train))


def get_config():
    return {
        "seed": 2,
        "model": {"name": "bucketed:Words"},
        "task": {"name": "rcnn_jax.tasks.tagging:Tagging"},
        "encoder": {"name": "rcnn_jax.data.encoders.word_tags:WordTags"},
        "data": {"name": "bucketed:FEW", "residency": "memory"},
        "sampler": {"name": "rcnn_jax.data.buckets:Buckets", "edges": (18,)},
        "batch_size": 8,
        "evaluation_batch_size": 4,
        "steps": 4,
        "evaluate_every": 4,
        "checkpoint_every": 4,
        "log_every": 1,
        "schedule": {"name": "constant", "value": 1.0},
        "best_metric": "f1",
        "best_mode": "max",
        "precision": "float64",
    }
