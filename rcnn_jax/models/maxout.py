"""Maxout networks for CIFAR, deterministic and probabilistic.

    maxout conv 8x8-96 (pad 4) - max-pool 4/2 - maxout conv 8x8-192 (pad 3) - max-pool 4/2 -
    maxout conv 5x5-192 (pad 3) - max-pool 2/2 - maxout 500 (5 pieces) - softmax

Convolutional units have 2 pieces. Pools keep a window that extends beyond the end: 33 -> 16, 15 ->
7, 9 -> 5. On 32x32 colour images with 10 classes the net has 16,247,830 parameters (16,244,360
weights), 12 million of them in the dense maxout layer.

References:
    Goodfellow, Warde-Farley, Mirza, Courville & Bengio, Maxout networks, ICML 2013; layer sizes
    from the code released with it (pylearn2, `scripts/papers/maxout/cifar10.yaml`).
    Springenberg & Riedmiller, Improving deep neural networks with probabilistic maxout units,
    arXiv:1312.6116.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.maxout import Maxout, uniform_or_lecun
from rcnn_jax.layers.pooling import max_pool


class MaxoutNet(nn.Module):
    """Convolutional maxout layers with pools, one dense maxout layer, and a linear head.

    Dropout precedes every layer: `input_dropout` on the image, `dropout` on the input of each later
    layer. The max-norm constraint of the papers is a step of the optimiser and not of the model,
    `config.optimizer.max_norm`; `MAX_NORMS` has the released limits.

    Attributes:
        classes: Number of classes.
        features: Number of units of each convolutional layer.
        kernel_sizes: Side of the window of each convolutional layer.
        paddings: Number of zeros on each side of the input of each convolution.
        pool_windows: Side of the window of the pool after each convolution.
        pool_strides: Stride of the pool after each convolution.
        pieces: Number of linear pieces of convolutional units.
        hidden: Number of units of the dense layer.
        hidden_pieces: Number of linear pieces of the units of the dense layer.
        input_dropout: Fraction of the input values dropped in training.
        rescale_input: Whether input values that are kept in training are scaled up, as for all
            other dropout. The released code does not do so, so that images are brighter at test
            than in training.
        dropout: Fraction of the activations dropped in training.
        probabilistic: Whether pieces are sampled instead of taking the maximum.
        inverse_temperatures: Inverse temperature lambda of each layer, the dense one last. The
            paper tunes it for each layer; the value 1 is a choice of this project.
        init_range: Bound of uniformly distributed initial weights. None takes variance 1 / fan-in.
        evaluation_seed: Seed of the sampled passes in evaluation (`tests`).
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.
    """

    classes: int
    features: Sequence[int] = (96, 192, 192)
    kernel_sizes: Sequence[int] = (8, 8, 5)
    paddings: Sequence[int] = (4, 3, 3)
    pool_windows: Sequence[int] = (4, 4, 2)
    pool_strides: Sequence[int] = (2, 2, 2)
    pieces: int = 2
    hidden: int = 500
    hidden_pieces: int = 5
    input_dropout: float = 0.2
    rescale_input: bool = True
    dropout: float = 0.5
    probabilistic: bool = False
    inverse_temperatures: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
    init_range: float | None = None
    evaluation_seed: int = 0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, tests: int = 0) -> Array:
        """Classifies images.

        Args:
            x: Images `[batch, height, width, channels]`; their size determines that of the dense
                layer.
            train: Whether to drop activations and sample pieces (random collection `dropout`).
            tests: Number of passes of a probabilistic net with sampled pieces whose class
                probabilities are averaged in evaluation; 0 makes one pass with the mean of each
                unit.

        Returns:
            Logits `[batch, classes]` in float32, or wider if the computation is; with `tests` the
            logarithm of the mean probabilities.

        Raises:
            ValueError: If an attribute, `tests` or the rank of `x` is invalid.
        """
        self._check(x, train, tests)
        if not tests:
            return self._logits(x, train, None)

        def one_pass(model: "MaxoutNet", carry: None, key: Array) -> tuple[None, Array]:
            return carry, jax.nn.log_softmax(model._logits(x, False, key))

        passes = nn.scan(one_pass, variable_broadcast="params", split_rngs={"params": False})
        seed = jax.random.key(self.evaluation_seed)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(seed, jnp.arange(tests))
        _, log_probabilities = passes(self, None, keys)
        return jax.nn.logsumexp(log_probabilities, axis=0) - math.log(tests)

    def _logits(self, x: Array, train: bool, key: Array | None) -> Array:
        """Computes the logits of one pass; pieces are sampled from `key` unless it is None."""
        x = Dropout(self.input_dropout, name="input_dropout")(x, train=train)
        if train and not self.rescale_input:
            x = x * (1 - self.input_dropout)
        count = len(self.features)
        for layer in range(count):
            window = (self.kernel_sizes[layer],) * 2
            units = self._layer(
                f"conv{layer + 1}",
                layer,
                features=self.features[layer],
                pieces=self.pieces,
                kernel_size=window,
                padding=self.paddings[layer],
            )
            x = units(x, train=train, key=_fold(key, layer))
            pool = (self.pool_windows[layer],) * 2
            x = max_pool(x, pool, (self.pool_strides[layer],) * 2, "CEIL")
            x = Dropout(self.dropout, name=f"dropout{layer + 1}")(x, train=train)
        x = x.reshape(x.shape[0], -1)
        units = self._layer("dense", count, features=self.hidden, pieces=self.hidden_pieces)
        x = units(x, train=train, key=_fold(key, count))
        x = Dropout(self.dropout, name=f"dropout{count + 1}")(x, train=train)
        init = uniform_or_lecun(self.init_range)
        dtype = jnp.dtype(self.param_dtype)
        return nn.Dense(self.classes, kernel_init=init, param_dtype=dtype, name="head")(x)

    def _layer(self, name: str, number: int, **attributes: Any) -> Maxout:
        return Maxout(
            name=name,
            probabilistic=self.probabilistic,
            inverse_temperature=self.inverse_temperatures[number],
            init_range=self.init_range,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            **attributes,
        )

    def _check(self, x: Array, train: bool, tests: int) -> None:
        if x.ndim != 4:
            raise ValueError(
                f"MaxoutNet takes images [batch, height, width, channels], got shape {x.shape}"
            )
        if self.classes < 1:
            raise ValueError(f"MaxoutNet needs at least 1 class, got classes={self.classes}")
        for name in ("kernel_sizes", "paddings", "pool_windows", "pool_strides"):
            if len(getattr(self, name)) != len(self.features):
                raise ValueError(
                    f"MaxoutNet needs one entry for each of {len(self.features)} convolutional "
                    f"layers, got {name}={tuple(getattr(self, name))}"
                )
        if len(self.inverse_temperatures) != len(self.features) + 1:
            raise ValueError(
                f"MaxoutNet needs one lambda for each of {len(self.features) + 1} maxout layers, "
                f"got inverse_temperatures={tuple(self.inverse_temperatures)}"
            )
        if tests < 0 or (tests and (train or not self.probabilistic)):
            raise ValueError(
                f"tests={tests}: sampled passes are for the evaluation of a probabilistic net, "
                f"here probabilistic={self.probabilistic} and train={train}"
            )


def _fold(key: Array | None, number: int) -> Array | None:
    """Folds a number into a random key, if there is one."""
    return None if key is None else jax.random.fold_in(key, number)


MAX_NORMS = {"conv1": 0.9, "conv2": 1.9365, "conv3": 1.9365, "dense": 1.9, "head": 1.9365}
"""Largest norm of the weights into each piece of a unit, by layer, in the released code."""


def maxout(classes: int, **attributes: Any) -> MaxoutNet:
    """Builds the net of the maxout paper, which leaves CIFAR's initial weights and dropout open.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `MaxoutNet`.
    """
    return MaxoutNet(classes=classes, **attributes)


def maxout_released_code(classes: int, **attributes: Any) -> MaxoutNet:
    """Builds the released maxout net: weights from U(-0.005, 0.005), input dropout not rescaled.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `MaxoutNet`.
    """
    values: dict[str, Any] = {"init_range": 0.005, "rescale_input": False}
    return MaxoutNet(classes=classes, **(values | attributes))


def probabilistic_maxout(classes: int, **attributes: Any) -> MaxoutNet:
    """Builds the maxout net with probabilistic units.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `MaxoutNet`.
    """
    return MaxoutNet(classes=classes, probabilistic=True, **attributes)
