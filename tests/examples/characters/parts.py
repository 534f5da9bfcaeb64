"""A character model that reads a text as contiguous streams, with a carry."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rcnn_jax.data.spec import DatasetSpec, Feature
from rcnn_jax.layers.recurrent.gated_cells import LSTM
from rcnn_jax.layers.recurrent.layer import zero_carry
from rcnn_jax.layers.recurrent.stack import Stack
from rcnn_jax.tasks.base import EvaluatedBatch, LossOutput
from rcnn_jax.tasks.streams import StreamTask

CHUNK, SHARES = 16, {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}


def read(root, split):
    """The split's part of text.txt in chunks, each with the first character of the next."""
    text = np.frombuffer((root / "text.txt").read_bytes(), np.uint8)
    start, stop = (int(share * len(text)) for share in SHARES[split])
    text, count = text[start:stop], (stop - start - 1) // CHUNK
    return {"text": np.stack([text[i * CHUNK :][: CHUNK + 1] for i in range(count)])}


TEXT = DatasetSpec(
    name="characters",
    version="1.0.0",
    features={"text": Feature((CHUNK + 1,), "uint8")},
    splits=dict.fromkeys(SHARES),
    files=lambda root, split: [root / "text.txt"],
    read=read,
)


class CharacterModel(nn.Module):
    hidden: int = 16
    layers: int = 2
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, text, carry, *, train):
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.Embed(256, self.hidden, **types)(text.astype(jnp.int32))
        cells = (LSTM(self.hidden),) * self.layers
        x, carry = Stack(cells, **types)(x, train=train, initial_carry=carry)
        return nn.Dense(256, **types)(x), carry


@dataclasses.dataclass(frozen=True, kw_only=True)
class NextCharacter(StreamTask):
    unit: str = "chunks"

    def initial_carry(self, batch_size):
        return (zero_carry(LSTM(self.model.hidden), batch_size),) * self.model.layers

    def init(self, key, batch):
        carry = self.initial_carry(len(batch["mask"]))
        return self.model.init(key, batch["text"][:, :-1], carry, train=False)["params"], {}

    def read(self, params, carry, batch, train=False):
        """Sum of the loss, number of characters, and the carry after a chunk of each stream."""
        text = batch["text"]
        logits, carry = self.model.apply({"params": params}, text[:, :-1], carry, train=train)
        labels = text[:, 1:].astype(jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        weights = jnp.broadcast_to(batch["mask"][:, None], losses.shape)
        return (weights * losses).sum(), weights.sum(), carry

    def loss(self, params, model_state, carry, batch, key):
        del key
        fresh = batch["fresh"][:, None]
        carry = jax.tree.map(lambda x: jnp.where(fresh, jnp.zeros_like(x), x), carry)
        total, count, carry = self.read(params, carry, batch, train=True)
        return LossOutput(total=total, count=count, model_state=model_state, carry=carry)

    def evaluate_chunks(self, params, model_state, carry, batch):
        total, count, carry = self.read(params, carry, batch)
        sums = {"loss": (total, count), "bits": (total / jnp.log(2.0), count)}
        return EvaluatedBatch(sums=sums, carry=carry)
