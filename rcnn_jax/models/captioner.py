"""Image captioning by the multimodal recurrent network of Karpathy & Fei-Fei.

    image -> CNN -> v;   b_v = W_hi v
    h(t) = f(W_hx x(t) + W_hh h(t-1) + b_h + 1[t = 1] b_v),   h(0) = 0
    y(t) = softmax(W_oh h(t) + b_o)

x(1) is the vector of BOS and x(t+1) that of the word at step t; EOS ends the sentence. The CNN is
either part of the model (`backbone`), or has been applied before, and then v is the input of the
model.

The attribute `image` selects where the image enters, and `cell` the recurrent layer. NeuralTalk,
the code that was released with the paper, differs from it in both, and in more; `neuraltalk` and
`neuraltalk_rnn` reproduce it.

References:
    Karpathy & Fei-Fei, Deep visual-semantic alignments for generating image descriptions, CVPR
    2015, section 3.2;
    Vinyals, Toshev, Bengio & Erhan, Show and tell: a neural image caption generator, CVPR 2015 (the
    image as the input before BOS).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, PyTree

from rcnn_jax.configuration import importing
from rcnn_jax.data.text.vocabulary import BOS, EOS, UNK
from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.embedding import rows
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.recurrent.cell import Cell, cell_of_model
from rcnn_jax.layers.recurrent.layer import Recurrent, zero_carry

EXAMPLE_INPUT = "4096"
IMAGES = ("first", "every", "before")


class Captioner(nn.Module):
    """Writes a sentence about an image.

    The parameters are `image_encoder/kernel` `[size, width]`, `word_embedding` `[classes,
    features]`, `recurrent` (those of the cell), `head_kernel` `[hidden, classes]`, `head_bias`
    `[classes]`, and those of `cnn`, if there is a backbone. `width` is that of the contribution of
    the cell's input to a step (`hidden` of an Elman network), or `features` if the image is an
    input itself.

    Attributes:
        classes: Number of ids, including `UNK`, `BOS` and `EOS`.
        features: Length of a word vector.
        cell: Name or import path of the recurrent cell, see `cell_by_name`; `jordan` is not
            supported.
        cell_options: Further attributes of the cell.
        hidden: Number of units of the recurrent layer.
        image: Where the image enters: `first` adds its vector to the first step only; `every` adds
            it to each step; `before` makes it the input before BOS.
        normalize_image: Whether to divide the output of the CNN by its root mean square over the
            `size` numbers, for nets with large outputs: the pooled maps of SqueezeNet reach 200,
            and relu units with such inputs at the first step soon become inactive.
        image_bias: Whether to add a bias `image_encoder/bias` `[width]` to the vector of the image.
        dropout: Fraction of the word vectors and of the image vector dropped in training.
        output_dropout: Fraction of the recurrent layer's outputs dropped before the head in
            training; the recurrence is not affected.
        kernel_init: Initializer of `image_encoder`; see
            `rcnn_jax.layers.initializers.kernel_initializer`.
        embedding_init: Initializer of `word_embedding`; see
            `rcnn_jax.layers.initializers.kernel_initializer`.
        head_init: Initializer of `head_kernel`; see
            `rcnn_jax.layers.initializers.kernel_initializer`.
        frequency_bias: Whether `head_bias` starts as the logarithms of `word_counts` over the
            largest of them, so that the first predictions are the frequencies of the words.
        word_counts: Number of occurrences of each class in the training split; a class that never
            occurs counts as half an occurrence. With an empty sequence the counts are unknown and
            the bias starts at 0.
        backbone: Import path `name` and attributes of the CNN, for example `{"name":
            "rcnn_jax.models.squeezenet:SqueezeNet"}`. It is built with `classes=0` and called as
            `cnn(x, train=...)` on images `[batch, height, width, channels]`, which it maps to
            vectors `[batch, size]`. If it is empty the model reads vectors.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.
    """

    classes: int
    features: int = 512
    cell: str = "elman"
    cell_options: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"activation": "relu"}
    )
    hidden: int = 512
    image: str = "first"
    normalize_image: bool = False
    image_bias: bool = False
    dropout: float = 0.5
    output_dropout: float = 0.5
    kernel_init: str | float = "lecun"
    embedding_init: str | float = 0.1
    head_init: str | float = "lecun"
    frequency_bias: bool = False
    word_counts: Sequence[int] = ()
    backbone: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dtype: str | None = None
    param_dtype: str = "float32"

    def setup(self) -> None:
        """Creates the layers."""
        self._check()
        param_dtype = jnp.dtype(self.param_dtype)
        self.image_encoder = nn.Dense(
            self._width,
            use_bias=self.image_bias,
            kernel_init=kernel_initializer(self.kernel_init),
            dtype=self.dtype,
            param_dtype=param_dtype,
        )
        draw = kernel_initializer(self.embedding_init)
        shape = (self.classes, self.features)
        self.word_embedding = self.param("word_embedding", draw, shape, param_dtype)
        self.recurrent = Recurrent(self._cell, dtype=self.dtype, param_dtype=self.param_dtype)
        self.drop = Dropout(self.dropout)
        self.drop_output = Dropout(self.output_dropout)
        shape = (self._cell.output_features, self.classes)
        draw = kernel_initializer(self.head_init)
        self.head_kernel = self.param("head_kernel", draw, shape, param_dtype)
        self.head_bias = self.param("head_bias", self._initial_bias, (self.classes,), param_dtype)
        if self.backbone:
            self.cnn = importing.build(
                self.backbone,
                "config.model.backbone",
                classes=0,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
            )

    def __call__(self, x: Array, *, train: bool, targets: Any = None) -> Array:
        """Computes the logits of each word of sentences, given the image and the words before it.

        Args:
            x: Vectors `[batch, size]` of images, or images `[batch, height, width, channels]` if
                there is a backbone.
            train: Whether to drop activations (random collection `dropout`).
            targets: Ids of sentences, integers `[batch, sentences, steps]`, each an input of the
                step after it; an id of `classes` or more is read as `UNK`, and the vector of a
                negative one is zero. None computes a single step of one sentence.

        Returns:
            Logits `[batch, sentences, steps, classes]` in float32, or wider if the computation is.

        Raises:
            ValueError: If an attribute, a shape or a dtype is invalid.
        """
        if targets is None:
            targets = jnp.full((x.shape[0], 1, 1), EOS, jnp.int32)
        if targets.ndim != 3 or not jnp.issubdtype(targets.dtype, jnp.integer):
            raise ValueError(
                "targets are integers [batch, sentences, steps], got "
                f"{targets.dtype} of shape {targets.shape}"
            )
        batch, sentences, steps = targets.shape
        state = self.begin(x, train=train)
        state = jax.tree.map(lambda leaf: jnp.repeat(leaf, sentences, axis=0), state)
        start = jnp.full((batch * sentences, 1), BOS, targets.dtype)
        written = targets.reshape(batch * sentences, steps)
        read = jnp.concatenate([start, written[:, :-1]], axis=1)
        logits, _ = self.decode(read, state, train=train)
        return logits.reshape(batch, sentences, steps, self.classes)

    def begin(self, x: Array, *, train: bool) -> PyTree:
        """Computes the state before the first word from an image.

        Args:
            x: Vectors `[batch, size]` of images, or images `[batch, height, width, channels]` if
                there is a backbone.
            train: Whether to drop activations (random collection `dropout`).

        Returns:
            A dict with leaves `[batch, ...]`: `carry` of the recurrent layer, and `added`, the
            contribution of the image to the next step.

        Raises:
            ValueError: If the shape or the dtype of `x` is invalid.
        """
        if self.backbone:
            x = self.cnn(x, train=train)
        if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                "Captioner takes floating vectors [batch, size] of pictures, or images with a "
                f"backbone that makes such of them, got {x.dtype} of shape {x.shape}"
            )
        if self.normalize_image:
            wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            square = jnp.square(wide).mean(axis=-1, keepdims=True)
            x = (wide * jax.lax.rsqrt(square + 1e-12)).astype(x.dtype)
        vector = self.drop(self.image_encoder(x), train=train)
        carry = zero_carry(self._cell, vector.shape[0], vector.dtype)
        if self.image != "before":
            return {"carry": carry, "added": vector}
        _, carry = self.recurrent(vector[:, None], initial_carry=carry)
        return {"carry": carry, "added": jnp.zeros((vector.shape[0], 0), vector.dtype)}

    def decode(self, ids: Array, state: PyTree, *, train: bool) -> tuple[Array, PyTree]:
        """Continues sentences from a given state.

        Args:
            ids: Input ids of the steps, integers `[rows, steps]`: `BOS`, then the ids so far.
            state: State before the first of these steps, as `begin` or `decode` returns it.
            train: Whether to drop activations (random collection `dropout`).

        Returns:
            A pair of the logits of the id after each input id, `[rows, steps, classes]`, and the
            state after the last step.
        """
        table = jnp.asarray(self.word_embedding, self.dtype)
        vectors = rows(table, jnp.where(ids < self.classes, ids, UNK))
        vectors = self.drop(vectors, train=train)
        added = state["added"]
        given = None
        if self.image == "first":
            given = added[:, None]
        elif self.image == "every":
            given = jnp.broadcast_to(added[:, None], (*ids.shape, added.shape[-1]))
        outputs, carry = self.recurrent(vectors, initial_carry=state["carry"], added=given)
        if self.image == "first":
            added = jnp.zeros_like(added)
        outputs = self.drop_output(outputs, train=train)
        outputs, kernel, bias = promote_dtype(
            outputs, self.head_kernel, self.head_bias, dtype=self.dtype
        )
        logits = outputs.reshape(-1, outputs.shape[-1]) @ kernel + bias[None]
        logits = logits.reshape(*ids.shape, self.classes)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        return logits, {"carry": carry, "added": added}

    @property
    def _cell(self) -> Cell:
        return cell_of_model(self.cell, self.hidden, self.cell_options)

    @property
    def _width(self) -> int:
        """Length of the vector of the image, as an input or as the contribution of an input."""
        if self.image == "before":
            return self.features
        return self._cell.weights(self.features).inputs["bias"][1][0]

    def _initial_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """Returns the initial bias of the head, log frequencies of the words or zeros."""
        del key
        if not self.frequency_bias or not self.word_counts:
            return jnp.zeros(shape, dtype)
        counts = np.maximum(np.asarray(self.word_counts, np.float64), 0.5)
        return jnp.asarray(np.log(counts / counts.max()), dtype)

    def _check(self) -> None:
        for name, least in (("classes", EOS + 1), ("features", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Captioner needs {name} of at least {least}, got {getattr(self, name)}"
                )
        if self.image not in IMAGES:
            raise ValueError(f"image is one of {', '.join(IMAGES)}, got {self.image!r}")
        if self.cell == "jordan":
            raise ValueError("cell='jordan' answers at each step and keeps no state to go on from")
        if len(self.word_counts) not in (0, self.classes):
            raise ValueError(
                f"word_counts are of all {self.classes} classes, got {len(self.word_counts)}"
            )


def multimodal_rnn(classes: int, **attributes: Any) -> Captioner:
    """Builds the network of the paper: 512 relu units, the image at the first step only.

    Args:
        classes: Number of ids, including `UNK`, `BOS` and `EOS`.
        **attributes: Further attributes of `Captioner`.
    """
    return Captioner(classes=classes, **attributes)


def neuraltalk(classes: int, **attributes: Any) -> Captioner:
    """Builds the default network of NeuralTalk: an LSTM that reads the image before BOS.

    It has 256 units, no tanh on the memory, dropout of a half on the inputs (including the image)
    and on the outputs before the head, kernels drawn uniformly from [-0.1, 0.1], and the log
    frequencies of the words as initial bias. NeuralTalk draws the biases of the LSTM like its
    kernels; here they start at 0.

    Args:
        classes: Number of ids, including `UNK`, `BOS` and `EOS`.
        **attributes: Further attributes of `Captioner`.
    """
    uniform = {"kernel_init": 0.1, "recurrent_init": 0.1}
    options = {"output_activation": "identity", "forget_bias": 0.0} | uniform
    released = {"cell": "lstm", "cell_options": options, "image": "before", "head_init": 0.1}
    return _released(classes, released, attributes)


def neuraltalk_rnn(classes: int, **attributes: Any) -> Captioner:
    """Builds NeuralTalk's network of `--generator rnn`: relu units with the image at each step.

    The other settings are those of `neuraltalk`, but the kernel of the head is drawn from [-0.01,
    0.01].

    Args:
        classes: Number of ids, including `UNK`, `BOS` and `EOS`.
        **attributes: Further attributes of `Captioner`.
    """
    options = {"activation": "relu", "kernel_init": 0.1, "recurrent_init": 0.1}
    released = {"cell": "elman", "cell_options": options, "image": "every", "head_init": 0.01}
    return _released(classes, released, attributes)


def _released(classes: int, own: dict[str, Any], attributes: Mapping[str, Any]) -> Captioner:
    """Builds a captioner with the settings that both networks of NeuralTalk share."""
    own |= {"features": 256, "hidden": 256, "image_bias": True, "kernel_init": 0.1}
    own |= {"frequency_bias": True, **attributes}
    return Captioner(classes=classes, **own)
