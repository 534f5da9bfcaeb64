"""A convolutional LSTM on clips of 6 to 16 frames: which way does the square move?"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.data.spec import DatasetSpec, Feature
from rcnn_jax.layers.convolution import convolve

SIDE, WAYS = 12, ((0, 1), (0, -1), (1, 0), (-1, 0))


def read(root, split):
    rng = np.random.default_rng({"train": 0, "validation": 1, "test": 2}[split])
    labels, clips = rng.integers(0, len(WAYS), 96), []
    for label in labels:
        clip = rng.integers(0, 60, (rng.integers(6, 17), SIDE, SIDE, 1)).astype(np.uint8)
        start = rng.integers(0, SIDE, 2)
        for time, frame in enumerate(clip):
            y, x = (start + time * np.array(WAYS[label])) % SIDE
            frame[y : y + 3, x : x + 3] = 255
        clips.append(clip)
    return {"clip": clips, "label": labels}


CLIPS = DatasetSpec(
    name="clips",
    version="1.0.0",
    features={
        "clip": Feature((None, SIDE, SIDE, 1), "uint8", role="frames"),
        "label": Feature((), "int64", len(WAYS)),
    },
    splits=dict.fromkeys(("train", "validation", "test"), 96),
    files=lambda root, split: [],
    read=read,
)


class ConvLSTM(nn.Module):
    """Reads frames [batch, time, height, width, channels] and answers after the last real one."""

    classes: int
    features: int = 8

    @nn.compact
    def __call__(self, clip, *, train, lengths):
        batch, time, *_ = clip.shape
        frames = clip.reshape(-1, *clip.shape[2:]) / 255.0
        drive = nn.Conv(4 * self.features, (3, 3))(frames)
        drive = drive.reshape(batch, time, *drive.shape[1:]).swapaxes(0, 1)
        shape = (3, 3, self.features, 4 * self.features)
        kernel = self.param("recurrent_kernel", nn.initializers.lecun_normal(), shape)

        def step(state, inputs):
            hidden, memory = state
            drive, real = inputs
            # In a loop the gradient of a plain convolution is about 30 times slower on a CPU.
            gates = drive + convolve(hidden, kernel, in_loop=True)
            update, keep, show, new = jnp.split(gates, 4, axis=-1)
            after = jax.nn.sigmoid(keep + 1) * memory + jax.nn.sigmoid(update) * jnp.tanh(new)
            shown = jax.nn.sigmoid(show) * jnp.tanh(after)
            return (jnp.where(real, shown, hidden), jnp.where(real, after, memory)), None

        zeros = jnp.zeros((*drive.shape[1:-1], self.features), drive.dtype)
        real = (jnp.arange(time)[:, None] < lengths[None])[..., None, None, None]
        (hidden, _), _ = jax.lax.scan(step, (zeros, zeros), (drive, real))
        return nn.Dense(self.classes)(hidden.mean((1, 2)))
