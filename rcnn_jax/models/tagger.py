"""A tag for each word: slot filling with a recurrent network over a window of words.

    word ids -> encoding -> window of w words -> recurrent layers -> logits of each word

An Elman, a Jordan, an LSTM or a GRU network, forwards or in both directions, reading words as
1-of-N vectors, as counts of letter trigrams or as embeddings.

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
from rcnn_jax.layers.masks import checked_lengths, live_steps
from rcnn_jax.layers.recurrent.cell import Cell, cell_of_model
from rcnn_jax.layers.recurrent.stack import Stack

DIRECTIONS = ("forward", "bidirectional")
EXAMPLE_INPUT = "20:int"


class Tagger(nn.Module):
    """Recurrent tagger of words, returning logits.

    Words arrive as ids. A negative id stands for nothing: what lies outside the sentence, and what
    a vocabulary without an entry for other words does not know. Encodings:

    - `one_hot`: 1-of-N vectors of the window side by side, read by a linear layer. Its kernel
      `window_kernel` is `[window, vocabulary, features]`, and since the product of a 1-of-N vector
      with a kernel is a row of it, rows are looked up.
    - `one_hot_other`: the same where id 0 is the class of all other words.
    - `trigrams`: each word is a list of ids of letter trigrams, `[batch, time, trigrams]`, that is
      a vector of counts, read as 1-of-N vectors are.
    - `embedding`: one table `embedding` `[vocabulary, features]` for all places of the window, and
      the vectors of the window side by side; what lies outside the sentence has a learned vector
      `outside`. Id 0 stands for all other words here, too.

    A Jordan network feeds back the probabilities that it answers with, so its own output is the
    logits; with both directions these are the sum of two networks'. All other cells are read by a
    linear layer `head`.

    Attributes:
        classes: number of tags.
        vocabulary: number of ids of words, or of trigrams.
        encoding: see above.
        features: length of a word vector, or units of the linear layer that reads 1-of-N vectors.
        window: number of words seen at each time step, odd: 7 are the word, 3 before and 3 behind.
        cell: see `cell_by_name`.
        cell_options: further attributes of the cell, such as `{"peepholes": True}` of the LSTM.
        hidden: units of each recurrent layer, in each direction.
        layers: number of recurrent layers; 1 for `jordan`.
        direction: `forward` or `bidirectional`.
        dropout: share of the encoded input, of the values between recurrent layers and of the
            last one's output that is dropped in training; a Jordan network's output is not.
        word_dropout: share of words that training takes for unknown ones, so that unknown words
            are known when they come.
        embedding_scale: standard deviation of the initial embeddings.
        dtype: dtype of the computation, for example `bfloat16`; None: that of the parameters.
        param_dtype: dtype of the parameters.
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
        """Tags sentences.

        Args:
            x: ids of words, integers `[batch, time]`; of trigrams `[batch, time, trigrams]`.
            train: drop words and activations (random collection `dropout`).
            lengths: number of words of each sentence, `[batch]` in 0..time; what lies beyond may
                hold anything. None: all.

        Returns:
            Logits `[batch, time, classes]`, zero beyond the lengths; in float32, or wider where
            the computation is.

        Raises:
            ValueError: an attribute, the shape or dtype of `x`, or a known length is impossible.
        """
        self._check(x)
        live = None
        if lengths is not None:
            lengths = checked_lengths(lengths, *x.shape[:2])
            live = live_steps(lengths, x.shape[1])
            x = jnp.where(live[..., None] if x.ndim == 3 else live, x, PAD)
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
        if live is None:
            return logits
        return jnp.where(live[..., None], logits, jnp.zeros((), logits.dtype))

    def _cell(self) -> Cell:
        if self.cell == "jordan":
            return cell_of_model("jordan", self.hidden, self.cell_options, outputs=self.classes)
        return cell_of_model(self.cell, self.hidden, self.cell_options)

    def _without_some_words(self, x: Array) -> Array:
        """Takes some words for unknown ones; outside the sentence there is nothing to take."""
        ones = jnp.ones(x.shape[:2], jnp.float32)
        kept = dropout(ones, self.make_rng("dropout"), rate=self.word_dropout) > 0
        kept = kept[..., None] if x.ndim == 3 else kept
        unknown = UNK if self.encoding in ("one_hot_other", "embedding") else PAD
        return jnp.where(kept | (x < 0), x, unknown)

    def _linear(self, x: Array) -> Array:
        """1-of-N vectors or trigram counts of a window, met by a kernel row by row."""
        shape = (self.window, self.vocabulary, self.features)
        # One row for each place of the window adds up, however large the vocabulary is.
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
        """Embeddings of the words of a window side by side, `[batch, time, window * features]`."""
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
