"""Sequence-to-sequence models: an encoder reads the source, a decoder writes the target.

    source ids -> embeddings -> recurrent layers -> their last carries
                                                          |
    BOS and target ids so far -> embeddings -> recurrent layers -> logits of the next id

With sources of a single step the model maps one vector to a sequence.

References:
    Sutskever, Vinyals & Le, Sequence to sequence learning with neural networks, NIPS 2014 (two
    networks, the source read backwards);
    Cho, van Merrienboer, Gulcehre, Bahdanau, Bougares, Schwenk & Bengio, Learning phrase
    representations using RNN encoder-decoder for statistical machine translation, EMNLP 2014.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.nn import initializers
from jaxtyping import Array, Int, PyTree

from rcnn_jax.data.text.vocabulary import BOS, EOS, PAD, UNK
from rcnn_jax.decoding import sampling
from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.embedding import rows
from rcnn_jax.layers.masks import checked_lengths, reverse_within, time_mask
from rcnn_jax.layers.recurrent.cell import cell_of_model
from rcnn_jax.layers.recurrent.stack import Stack

EXAMPLE_INPUT = "20:int"


class EncoderDecoder(nn.Module):
    """Recurrent network that reads one sequence of ids and writes another.

    Attributes:
        classes: Number of target ids, including `UNK`, `BOS` and `EOS`.
        vocabulary: Number of source ids.
        features: Length of the embeddings of source and target.
        cell: Name or import path of the recurrent cell of both networks, see `cell_by_name`;
            `jordan` is not supported.
        cell_options: Further attributes of the cell, such as `{"peepholes": True}` of the LSTM.
        hidden: Number of units of each recurrent layer.
        layers: Number of recurrent layers of each network.
        reverse: Whether the source is read backwards, so that its beginning is close to that of the
            target.
        dropout: Fraction dropped in training of the embeddings, of the values between recurrent
            layers and of the output of the last one.
        embedding_scale: Standard deviation of the initial embeddings.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.
    """

    classes: int
    vocabulary: int
    features: int = 64
    cell: str = "lstm"
    cell_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    hidden: int = 128
    layers: int = 1
    reverse: bool = True
    dropout: float = 0.0
    embedding_scale: float = 0.1
    dtype: str | None = None
    param_dtype: str = "float32"

    def setup(self) -> None:
        """Creates encoder and decoder."""
        self._check()
        param_dtype = jnp.dtype(self.param_dtype)
        draw = initializers.normal(self.embedding_scale)
        self.source_embedding = self.param(
            "source_embedding", draw, (self.vocabulary, self.features), param_dtype
        )
        self.target_embedding = self.param(
            "target_embedding", draw, (self.classes, self.features), param_dtype
        )
        self.encoder = self._stack()
        self.decoder = self._stack()
        self.drop = Dropout(self.dropout)
        self.head = nn.Dense(self.classes, param_dtype=param_dtype)

    def __call__(self, x: Array, *, train: bool, lengths: Any = None, targets: Any = None) -> Array:
        """Computes the logits of each target id, given the source and the target ids before it.

        Args:
            x: Source ids, integers `[batch, time]`; a negative id is embedded as the vector of
                zeros.
            train: Whether to drop activations (random collection `dropout`).
            lengths: Number of real steps of each source, integers `[batch]` in `[0, time]`; later
                steps may have any value. None means that all steps are real.
            targets: Target ids, integers `[batch, steps]`, each an input of the step after it; an
                id outside `[0, classes)` is read as `UNK`. None computes a single step.

        Returns:
            Logits `[batch, steps, classes]` in float32, or wider if the computation is.

        Raises:
            ValueError: If an attribute, a shape or a dtype is invalid, or a known length is out of
                range.
        """
        carries = self.encode(x, train=train, lengths=lengths)
        if targets is None:
            targets = jnp.full((x.shape[0], 1), EOS, jnp.int32)
        if targets.ndim != 2 or not jnp.issubdtype(targets.dtype, jnp.integer):
            raise ValueError(
                f"targets are integers [batch, steps], got {targets.dtype} of shape {targets.shape}"
            )
        start = jnp.full((x.shape[0], 1), BOS, targets.dtype)
        return self.decode(jnp.concatenate([start, targets[:, :-1]], 1), carries, train=train)[0]

    def encode(self, x: Array, *, train: bool, lengths: Any = None) -> tuple[Any, ...]:
        """Reads source sequences.

        Args:
            x: Source ids, integers `[batch, time]`; a negative id is embedded as the vector of
                zeros.
            train: Whether to drop activations (random collection `dropout`).
            lengths: Number of real steps of each source, integers `[batch]` in `[0, time]`; later
                steps may have any value. None means that all steps are real.

        Returns:
            Carry of each layer after the source.

        Raises:
            ValueError: If a shape or a dtype is invalid, or a known length is out of range.
        """
        if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(
                f"EncoderDecoder reads integers [batch, time], got {x.dtype} of shape {x.shape}"
            )
        lengths = jnp.full(x.shape[:1], x.shape[1]) if lengths is None else lengths
        lengths = checked_lengths(lengths, *x.shape)
        x = jnp.where(time_mask(lengths, x.shape[1]), x, PAD)
        vectors = rows(jnp.asarray(self.source_embedding, self.dtype), x)
        if self.reverse:
            vectors = reverse_within(vectors, lengths)
        _, carries = self.encoder(self.drop(vectors, train=train), train=train, lengths=lengths)
        return carries

    def decode(
        self, ids: Array, carries: tuple[Any, ...], *, train: bool
    ) -> tuple[Array, tuple[Any, ...]]:
        """Continues target sequences from given carries.

        Args:
            ids: Input ids of the steps, integers `[batch, steps]`: `BOS`, then the target ids so
                far.
            carries: Carry of each layer before the first of these steps.
            train: Whether to drop activations (random collection `dropout`).

        Returns:
            A pair of the logits of the id after each input id, `[batch, steps, classes]`, and the
            carry of each layer after the last step.
        """
        known = (ids >= 0) & (ids < self.classes)
        table = jnp.asarray(self.target_embedding, self.dtype)
        vectors = rows(table, jnp.where(known, ids, UNK))
        states, carries = self.decoder(
            self.drop(vectors, train=train), train=train, initial_carry=carries
        )
        states = self.drop(states, train=train)
        return self.head(states.astype(jnp.promote_types(states.dtype, jnp.float32))), carries

    def _stack(self) -> Stack:
        return Stack(
            cells=(cell_of_model(self.cell, self.hidden, self.cell_options),) * self.layers,
            dropout=self.dropout,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

    def _check(self) -> None:
        for name, least in (
            ("classes", EOS + 1),
            ("vocabulary", 1),
            ("features", 1),
            ("layers", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(
                    f"EncoderDecoder needs {name} of at least {least}, got {getattr(self, name)}"
                )
        if self.cell == "jordan":
            raise ValueError("cell='jordan' answers at each step and keeps no state to go on from")


def greedy(
    model: EncoderDecoder, variables: PyTree, x: Array, lengths: Any, steps: int
) -> Int[Array, "batch steps"]:
    """Decodes greedily: writes the most probable id at each step, and reads it at the next.

    Args:
        model: Encoder-decoder that writes.
        variables: Variables of the model.
        x: Source ids, integers `[batch, time]`.
        lengths: Number of real steps of each source, integers `[batch]`. None means that all steps
            are real.
        steps: Largest number of ids to be written, at least 1.

    Returns:
        Target ids `int32[batch, steps]` up to the first `EOS`, followed by `PAD`; only `PAD` where
        the model is broken, see `written`.
    """
    return written(model, variables, x, lengths, steps).ids


def written(
    model: EncoderDecoder, variables: PyTree, x: Array, lengths: Any, steps: int
) -> sampling.Written:
    """Decodes greedily, and returns the probabilities of the sequences beside their ids.

    Args:
        model: Encoder-decoder that writes.
        variables: Variables of the model.
        x: Source ids, integers `[batch, time]`.
        lengths: Number of real steps of each source, integers `[batch]`. None means that all steps
            are real.
        steps: Largest number of ids to be written, at least 1.

    Returns:
        Ids, lengths and log-probabilities of the target sequences; the latter are NaN where logits
        are.
    """

    def step(ids: Array, carries: PyTree) -> tuple[Array, PyTree]:
        logits, carries = model.apply(
            variables, ids[:, None], carries, train=False, method="decode"
        )  # pyright: ignore[reportAssignmentType]
        return logits[:, 0], carries  # pyright: ignore[reportIndexIssue]

    carries = model.apply(variables, x, train=False, lengths=lengths, method="encode")
    return sampling.greedy(step, carries, x.shape[0], steps=steps, start_id=BOS, end_id=EOS)
