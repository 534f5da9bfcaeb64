"""Two towers: pictures and sentences of shapes in one space, ranked against the whole batch."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.layers.global_batch import row_numbers, whole_batch
from rcnn_jax.layers.rcl import RCL
from rcnn_jax.tasks.base import BaseTask, LossOutput


class Towers(nn.Module):
    """Embeddings [batch, width] of pictures and of sentences as ids."""

    classes: int
    width: int = 8
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image, words, *, train):
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.avg_pool(image, (8, 8), (8, 8))
        x = RCL(self.width, steps=1, norm="lrn", **types)(x, train=train)
        x = nn.Dense(self.width, **types)(x.reshape(len(x), -1))
        return x, nn.Embed(self.classes, self.width, **types)(words).mean(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking(BaseTask):
    """Every picture nearer to its own sentence than to all others of the batch, by a margin."""

    margin: float = 1.0

    def read(self, params, batch, train=False):
        image, words = batch["image"] / 255.0, batch["captions"][:, 0]
        return self.model.apply({"params": params}, image, words, train=train)

    def init(self, key, batch):
        image = batch["image"] / 255.0
        words = batch["captions"][:, 0]
        return self.model.init(key, image, words, train=False)["params"], {}

    def loss(self, params, model_state, carry, batch, key):
        del key
        images, sentences = self.read(params, batch, train=True)
        everyone, mask = whole_batch((sentences, batch["mask"]))
        scores, rows = images @ everyone.T, row_numbers(len(images))
        right = jnp.take_along_axis(scores, rows[:, None], axis=1)
        others = mask[None] * (jnp.arange(scores.shape[1])[None] != rows[:, None])
        losses = (others * jax.nn.relu(self.margin + scores - right)).sum(1)
        total, count = (batch["mask"] * losses).sum(), batch["mask"].sum()
        return LossOutput(total=total, count=count, model_state=model_state, carry=carry)

    def predict(self, params, model_state, batch):
        image, sentence = self.read(params, batch)
        return {"image": image, "sentence": sentence}

    evaluates_on_host = True

    def evaluate(self, predictions):
        """Share of pictures whose sentence is among the ten nearest of the split."""
        import numpy as np

        masks = np.concatenate([batch["mask"] for _, batch in predictions]) > 0
        image, sentence = (
            np.concatenate([found[name] for found, _ in predictions])[masks]
            for name in ("image", "sentence")
        )
        scores = image @ sentence.T
        rank = (scores > np.diagonal(scores)[:, None]).sum(1)
        return {"recall_at_10": float((rank < 10).mean())}
