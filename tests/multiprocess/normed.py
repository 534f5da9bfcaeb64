"""A net with batch normalisation that compiles in no time."""

import flax.linen as nn

from rcnn_jax.layers.normalization import BatchNorm


class Normed(nn.Module):
    classes: int
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x, *, train: bool):
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.Dense(12, **types)(x.reshape(x.shape[0], -1))
        x = nn.relu(BatchNorm(param_dtype=self.param_dtype)(x, train=train))
        return nn.Dense(self.classes, **types)(x)
