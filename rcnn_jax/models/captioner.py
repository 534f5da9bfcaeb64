"""A sentence about a picture: the multimodal recurrent network of Karpathy & Fei-Fei.

    picture -> CNN -> v;   b_v = W_hi v
    h(t) = f(W_hx x(t) + W_hh h(t-1) + b_h + 1[t = 1] b_v),   h(0) = 0
    y(t) = softmax(W_oh h(t) + b_o)

x(1) is the vector of the start token and x(t+1) that of the word which was written at step t; the
end token ends the sentence. The CNN is a part of the model (`backbone`) or has run before, and
then v is what the model reads.

`image` says where the picture enters, `cell` what the recurrent layer is. NeuralTalk, the code that
was released with the paper, differs from it in both, and in more; `neuraltalk` and `neuraltalk_rnn`
are what it does.

References:
    Karpathy & Fei-Fei, Deep visual-semantic alignments for generating image descriptions, CVPR
    2015, section 3.2;
    Vinyals, Toshev, Bengio & Erhan, Show and tell: a neural image caption generator, CVPR 2015
    (the picture as the input before the start token).
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
    """Writes a sentence about a picture.

    Parameters: `image_encoder/kernel` `[size, width]`, `word_embedding` `[classes, features]`,
    `recurrent` (those of the cell), `head_kernel` `[hidden, classes]`, `head_bias` `[classes]`, and
    those of `cnn`, if there is a backbone. `width` is that of what the cell's input contributes to
    a step (`hidden` of an Elman network), and `features` where the picture is an input itself.

    Attributes:
        classes: number of ids, `UNK`, `BOS` and `EOS` among them.
        features: length of a word's vector.
        cell: of the recurrent layer, see `cell_by_name`; `jordan` is none of them.
        cell_options: further attributes of the cell.
        hidden: units of the recurrent layer.
        image: where the picture enters: `first`, its vector is added to the first step alone;
            `every`, to each step; `before`, it is what the layer reads before the start token.
        normalize_image: divide what the CNN says of a picture by its root mean square over the
            `size` numbers, for nets whose numbers are large: the pooled maps of SqueezeNet go up to
            200, and relu units that are pushed so hard at the first step soon answer no more.
        image_bias: add `image_encoder/bias` `[width]` to the picture's vector.
        dropout: share of the words' vectors and of the picture's that is dropped in training.
        output_dropout: share of the recurrent layer's outputs that is dropped on their way to the
            head; what the next step reads of them stays whole.
        kernel_init: of `image_encoder`, see `rcnn_jax.layers.initializers.kernel_initializer`.
        embedding_init: of `word_embedding`, likewise.
        head_init: of `head_kernel`, likewise.
        frequency_bias: let `head_bias` start as the logarithms of `word_counts` over the largest of
            them, so that the first answers are the frequencies of the words.
        word_counts: how often each of the classes occurs in training; one that never does counts as
            half an occurrence. Comes from the training split; (): nothing is known, the bias starts
            at 0.
        backbone: the CNN: `name`, an import path, and attributes, for example `{"name":
            "rcnn_jax.models.squeezenet:SqueezeNet"}`. It is made with `classes=0` and called as
            `cnn(x, train=...)` on images `[batch, height, width, channels]`, of which it makes
            vectors `[batch, size]`. Empty: the model reads vectors.
        dtype: dtype of the computation, for example `bfloat16`; None: that of the parameters.
        param_dtype: dtype of the parameters.
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
        """Makes the layers."""
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
        """Logits of each word of sentences, given the picture and the words before it.

        Args:
            x: vectors `[batch, size]`; images `[batch, height, width, channels]` with a backbone.
            train: drop activations (random collection `dropout`).
            targets: ids of sentences `[batch, sentences, steps]`, each fed to the step after it;
                one that is none of the classes is read as `UNK`, a negative one as nothing. None:
                one step of one sentence is made.

        Returns:
            `[batch, sentences, steps, classes]`, in float32, or wider where the computation is.

        Raises:
            ValueError: an attribute, a shape or a dtype is impossible.
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
        """What is known of a picture before the first word, leaves `[batch, ...]`.

        Args:
            x: see the call.
            train: see the call.

        Returns:
            `carry` of the recurrent layer, and `added`, what the picture adds to the next step.
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
        carry = zero_carry(self._cell, len(vector), vector.dtype)
        if self.image != "before":
            return {"carry": carry, "added": vector}
        _, carry = self.recurrent(vector[:, None], initial_carry=carry)
        return {"carry": carry, "added": jnp.zeros((len(vector), 0), vector.dtype)}

    def decode(self, ids: Array, state: PyTree, *, train: bool) -> tuple[Array, PyTree]:
        """Goes on writing.

        Args:
            ids: read at each step, integers `[rows, steps]`: `BOS`, then what was written.
            state: before the first of these steps, see `begin`.
            train: see the call.

        Returns:
            Logits of the id after each of these, `[rows, steps, classes]`, and the state.
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
        """How wide the picture's vector is: as an input, or as what an input contributes."""
        if self.image == "before":
            return self.features
        return self._cell.weights(self.features).inputs["bias"][1][0]

    def _initial_bias(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
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
    """The network of the paper: 512 relu units, the picture at the first step alone."""
    return Captioner(classes=classes, **attributes)


def neuraltalk(classes: int, **attributes: Any) -> Captioner:
    """What NeuralTalk trains unless told otherwise: an LSTM that reads the picture before BOS.

    256 units, no tanh on the memory, dropout of a half on what is read (the picture too) and on
    what goes to the head, kernels drawn evenly from -0.1 to 0.1, and the log frequencies of the
    words as initial bias. There the biases of the LSTM are drawn as its kernels are, here they
    start at 0.
    """
    even = {"kernel_init": 0.1, "recurrent_init": 0.1}
    options = {"output_activation": "identity", "forget_bias": 0.0} | even
    own = {"cell": "lstm", "cell_options": options, "image": "before", "head_init": 0.1}
    return _released(classes, own, attributes)


def neuraltalk_rnn(classes: int, **attributes: Any) -> Captioner:
    """What NeuralTalk trains with `--generator rnn`: relu units that see the picture at each step.

    As `neuraltalk` but for that; the head's kernel is drawn from -0.01 to 0.01.
    """
    options = {"activation": "relu", "kernel_init": 0.1, "recurrent_init": 0.1}
    own = {"cell": "elman", "cell_options": options, "image": "every", "head_init": 0.01}
    return _released(classes, own, attributes)


def _released(classes: int, own: dict[str, Any], attributes: Mapping[str, Any]) -> Captioner:
    own |= {"features": 256, "hidden": 256, "image_bias": True, "kernel_init": 0.1}
    own |= {"frequency_bias": True, **attributes}
    return Captioner(classes=classes, **own)
