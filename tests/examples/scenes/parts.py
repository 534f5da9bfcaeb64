"""Scene labelling: rectangles and discs on a ground, cropped and flipped with their label maps."""

import dataclasses
import io

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

from rcnn_jax.data.spec import DatasetSpec, Feature
from rcnn_jax.layers.rcl import RCL
from rcnn_jax.tasks.summed import SummedTask

SIDE, VOID, CLASSES = 20, 255, ("ground", "rectangle", "disc")


def scene(rng):
    labels, (y, x) = np.zeros((SIDE, SIDE), np.uint8), np.indices((SIDE, SIDE))
    top, left = rng.integers(0, SIDE - 8, 2)
    labels[top : top + 8, left : left + 6] = 1
    row, column = rng.integers(4, SIDE - 4, 2)
    labels[(y - row) ** 2 + (x - column) ** 2 < 20] = 2
    colours = np.array([[90, 90, 90], [200, 80, 60], [70, 120, 200]])
    image = colours[labels] + rng.integers(-40, 40, (SIDE, SIDE, 3))
    labels[0] = VOID
    return image.astype(np.uint8), labels


def read(root, split):
    rng = np.random.default_rng({"train": 0, "validation": 1, "test": 2}[split])
    images, labels = zip(*(scene(rng) for _ in range(64)), strict=True)
    return {"image": np.stack(images), "labels": np.stack(labels)}


SCENES = DatasetSpec(
    name="scenes",
    version="1.0.0",
    features={
        "image": Feature((SIDE, SIDE, 3), "uint8"),
        "labels": Feature((SIDE, SIDE), "uint8", role="label_map"),
    },
    splits=dict.fromkeys(("train", "validation", "test"), 64),
    files=lambda root, split: [],
    read=read,
)


class SceneRCNN(nn.Module):
    classes: int
    features: int = 12

    @nn.compact
    def __call__(self, x, *, train):
        x = RCL(self.features, steps=2, norm="batch")(x, train=train)
        return nn.Conv(self.classes, (1, 1))(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneLabelling(SummedTask):
    unit: str = "images"

    def model_inputs(self, batch):
        return batch["image"], {}

    def sums(self, logits, batch):
        labels = batch["labels"].astype(jnp.int32)
        known = ((labels != VOID) & (batch["mask"][:, None, None] > 0)).astype(logits.dtype)
        target = jnp.where(labels == VOID, 0, labels)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        wrong = jnp.argmax(logits, -1) != target
        count = known.sum()
        return {"loss": ((known * losses).sum(), count), "error": ((known * wrong).sum(), count)}

    def predict(self, params, model_state, batch):
        return {"labels": jnp.argmax(self.logits(params, model_state, batch)[0], -1)}

    @property
    def reads(self):
        return ("image",)

    def answers(self, predicted, features, n_best):
        shares = [np.bincount(m.reshape(-1), minlength=3) / m.size for m in predicted["labels"]]
        return [[dict(zip(CLASSES, map(float, share), strict=True))] for share in shares]

    def files(self, predicted, features, n_best):
        from PIL import Image

        masks = []
        for mask in np.asarray(predicted["labels"], np.uint8):
            png = io.BytesIO()
            Image.fromarray(mask * 100).save(png, "PNG")
            masks.append({"mask.png": png.getvalue()})
        return masks
