"""Slot filling: a tag for each word by a recurrent network over a window of words.

    word ids -> encoding -> window of w words -> recurrent layers -> logits of each word

The network is an Elman, a Jordan, an LSTM or a GRU network, forward or in both directions. Words
are encoded as 1-of-N vectors, as counts of letter trigrams or as embeddings.

References:
    Mesnil, He, Deng & Bengio, Investigation of recurrent-neural-network architectures and learning
    methods for spoken language understanding, Interspeech 2013 (window of embeddings, Elman and
    Jordan);
    Huang, He, Gao, Deng, Acero & Heck, Learning deep structured semantic models for web search
    using clickthrough data, CIKM 2013 (letter trigrams).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.nn import initializers
from jaxtyping import Array

from rcnn_jax.data.text.vocabulary import ENCODINGS, PAD, UNK
from rcnn_jax.layers.dropout import Dropout, dropout
from rcnn_jax.layers.embedding import neighbours, rows
from rcnn_jax.layers.masks import checked_lengths, time_mask
from rcnn_jax.layers.recurrent.cell import Cell, cell_of_model
from rcnn_jax.layers.recurrent.stack import Stack

DIRECTIONS = ("forward", "bidirectional")
EXAMPLE_INPUT = "20:int"


class Tagger(nn.Module):
    """Recurrent tagger of words, returning logits.

    Words are given as ids. A negative id is a position outside the sentence, or a word that is
    unknown to a vocabulary without UNK. The encodings are:

    - `one_hot`: 1-of-N vectors of the window side by side, read by a linear layer. Its kernel
      `window_kernel` is `[window, vocabulary, features]`, and since the product of a 1-of-N vector
      with a kernel is a row of it, rows are looked up.
    - `one_hot_other`: the same with id 0 as UNK, the class of all unknown words.
    - `trigrams`: each word is a list of ids of letter trigrams, `[batch, time, trigrams]`, which is
      a vector of counts and is read like 1-of-N vectors.
    - `embedding`: one table `embedding` `[vocabulary, features]` for all places of the window, with
      the vectors of the window side by side; positions outside the sentence have a learned vector
      `outside`. Id 0 is UNK here, too.

    A Jordan network feeds back the probabilities of its output, so its outputs are the logits; with
    both directions the logits are the sum of the outputs of two networks. The outputs of all other
    cells are read by a linear layer `head`.

    Attributes:
        classes: Number of tags.
        vocabulary: Number of ids of words, or of trigrams.
        encoding: `one_hot`, `one_hot_other`, `trigrams` or `embedding`, as described above.
        features: Length of a word vector, or number of units of the linear layer that reads 1-of-N
            vectors.
        window: Number of words that are visible at each time step, odd: 7 are the word, 3 before
            and 3 after it.
        cell: Name or import path of the recurrent cell, see `cell_by_name`.
        cell_options: Further attributes of the cell, such as `{"peepholes": True}` of the LSTM.
        hidden: Number of units of each recurrent layer, in each direction.
        layers: Number of recurrent layers; 1 for `jordan`.
        direction: `forward` or `bidirectional`.
        dropout: Fraction dropped in training of the encoded input, of the values between recurrent
            layers and of the output of the last one; the output of a Jordan network is not dropped.
        word_dropout: Fraction of the words treated as unknown in training, so that the model learns
            a representation of unknown words.
        embedding_scale: Standard deviation of the initial embeddings.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.models.tagger import Tagger
        >>> model = Tagger(classes=4, vocabulary=20, features=6, window=3, hidden=5)
        >>> run = lambda key, ids: model.init_with_output(key, ids, train=False)
        >>> logits, variables = jax.eval_shape(run, jax.random.key(0), jnp.zeros((2, 7), int))
        >>> logits.shape, variables["params"]["embedding"].shape
        ((2, 7, 4), (20, 6))
    """

    classes: int
    vocabulary: int
    encoding: str = "embedding"
    features: int = 100
    window: int = 1
    cell: str = "lstm"
    cell_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    hidden: int = 100
    layers: int = 1
    direction: str = "forward"
    dropout: float = 0.0
    word_dropout: float = 0.0
    embedding_scale: float = 0.1
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, lengths: Any = None) -> Array:
        """Computes the logits of the tags of sentences.

        Args:
            x: Word ids, integers `[batch, time]`, or trigram ids `[batch, time, trigrams]`.
            train: Whether to drop words and activations (random collection `dropout`).
            lengths: Number of words of each sentence, integers `[batch]` in `[0, time]`; later
                steps may have any value. None means that all steps are real.

        Returns:
            Logits `[batch, time, classes]`, zero beyond the lengths, in float32, or wider if the
            computation is.

        Raises:
            ValueError: If an attribute, or the shape or dtype of `x` is invalid, or a known length
                is out of range.
        """
        self._check(x)
        mask = None
        if lengths is not None:
            lengths = checked_lengths(lengths, *x.shape[:2])
            mask = time_mask(lengths, x.shape[1])
            x = jnp.where(mask[..., None] if x.ndim == 3 else mask, x, PAD)
        if train and self.word_dropout > 0:
            x = self._without_some_words(x)
        encoded = self._embedded(x) if self.encoding == "embedding" else self._linear(x)
        encoded = Dropout(self.dropout, name="dropout_input")(encoded, train=train)
        jordan = self.cell == "jordan"
        states, _ = Stack(
            cells=(self._cell(),) * self.layers,
            bidirectional=self.direction == "bidirectional",
            merge="sum" if jordan else "concat",
            dropout=self.dropout,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="recurrent",
        )(encoded, train=train, lengths=lengths)
        if jordan:
            logits = states.astype(jnp.promote_types(states.dtype, jnp.float32))
        else:
            states = Dropout(self.dropout, name="dropout_output")(states, train=train)
            logits = nn.Dense(self.classes, param_dtype=jnp.dtype(self.param_dtype), name="head")(
                states
            )
        if mask is None:
            return logits
        return jnp.where(mask[..., None], logits, jnp.zeros((), logits.dtype))

    def _cell(self) -> Cell:
        if self.cell == "jordan":
            return cell_of_model("jordan", self.hidden, self.cell_options, outputs=self.classes)
        return cell_of_model(self.cell, self.hidden, self.cell_options)

    def _without_some_words(self, x: Array) -> Array:
        """Makes some words unknown at random; positions outside the sentence are unchanged."""
        ones = jnp.ones(x.shape[:2], jnp.float32)
        kept = dropout(ones, self.make_rng("dropout"), rate=self.word_dropout) > 0
        kept = kept[..., None] if x.ndim == 3 else kept
        unknown = UNK if self.encoding in ("one_hot_other", "embedding") else PAD
        return jnp.where(kept | (x < 0), x, unknown)

    def _linear(self, x: Array) -> Array:
        """Multiplies the 1-of-N vectors or trigram counts of a window by a kernel."""
        shape = (self.window, self.vocabulary, self.features)
        # The sum has one row for each place of the window, regardless of the vocabulary size.
        initializer = initializers.normal(self.window**-0.5)
        param_dtype = jnp.dtype(self.param_dtype)
        kernel = self.param("window_kernel", initializer, shape, param_dtype)
        bias = self.param("window_bias", initializers.zeros, (self.features,), param_dtype)
        kernel, bias = promote_dtype(kernel, bias, dtype=self.dtype)
        places = neighbours(x, self.window, PAD)
        total = jnp.broadcast_to(bias[None, None], (*x.shape[:2], self.features))
        for table, ids in zip(kernel, places, strict=True):
            read = rows(table, ids)
            total = total + (read.sum(axis=2) if x.ndim == 3 else read)
        return total

    def _embedded(self, x: Array) -> Array:
        """Returns the embeddings of a window side by side, `[batch, time, window * features]`."""
        param_dtype = jnp.dtype(self.param_dtype)
        initializer = initializers.normal(self.embedding_scale)
        shape = (self.vocabulary, self.features)
        table = self.param("embedding", initializer, shape, param_dtype)
        outside = self.param("outside", initializer, (self.features,), param_dtype)
        table, outside = promote_dtype(table, outside, dtype=self.dtype)
        vectors = jnp.where((x < 0)[..., None], outside[None, None], rows(table, x))
        return jnp.concatenate(neighbours(vectors, self.window, outside), axis=-1)

    def _check(self, x: Array) -> None:
        for name, allowed in (("encoding", ENCODINGS), ("direction", DIRECTIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name in ("classes", "vocabulary", "features", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"Tagger needs {name} of at least 1, got {getattr(self, name)}")
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(f"window is an odd number of words, got {self.window}")
        if self.cell == "jordan" and self.layers > 1:
            raise ValueError(
                f"a Jordan network feeds back its answer and has 1 layer, got layers={self.layers}"
            )
        axes = "[batch, time, trigrams]" if self.encoding == "trigrams" else "[batch, time]"
        if x.ndim != axes.count(",") + 1 or not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(
                f"with encoding={self.encoding!r} Tagger takes integers {axes}, got {x.dtype} of "
                f"shape {x.shape}"
            )
