"""This project's side of the CTC rows, and Optax's loss."""

import pathlib
from collections.abc import Callable
from typing import Any

import ctc_inputs
import jax
import jax.numpy as jnp
import numpy as np
import optax
from row import Prepared

from rcnn_jax.decoding import ctc


def _loss(folder: pathlib.Path, make: Callable[..., Any], sizes: dict[str, int]) -> Prepared:
    del folder
    host_logits, host_labels = ctc_inputs.problems(**sizes)
    logits, labels = jnp.asarray(host_logits), jnp.asarray(host_labels)
    step = jax.jit(jax.value_and_grad(make(labels)))
    now: dict[str, Any] = {}

    def run() -> None:
        now["all"] = jax.block_until_ready(step(logits))

    def answers() -> dict[str, Any]:
        value, gradient = now["all"]
        return {"loss": np.asarray(value), "gradient": np.asarray(gradient)}

    return Prepared(run, answers, work=sizes["batch"], unit="sequences")


def loss(folder: pathlib.Path, **sizes: int) -> Prepared:
    """Sum of the losses of a batch and its gradient by the logits.

    Args:
        folder: unused, there are no weights.
        **sizes: see `ctc_inputs.problems`.
    """

    def make(labels: jax.Array) -> Callable[[jax.Array], jax.Array]:
        frames = jnp.full((sizes["batch"],), sizes["time"])
        counts = jnp.full((sizes["batch"],), sizes["labels"])
        return lambda logits: ctc.loss(logits, frames, labels, counts).sum()

    return _loss(folder, make, sizes)


def optax_loss(folder: pathlib.Path, **sizes: int) -> Prepared:
    """The same by `optax.ctc_loss`; arguments as for `loss`."""

    def make(labels: jax.Array) -> Callable[[jax.Array], jax.Array]:
        frames = jnp.zeros((sizes["batch"], sizes["time"]))
        places = jnp.zeros((sizes["batch"], sizes["labels"]))
        return lambda logits: optax.ctc_loss(logits, frames, labels, places).sum()

    return _loss(folder, make, sizes)


def beam(folder: pathlib.Path, *, width: int, **sizes: int) -> Prepared:
    """The best labelling of each sequence that a beam finds.

    Args:
        folder: unused.
        width: prefixes in the beam.
        **sizes: see `ctc_inputs.sure_logits`.
    """
    del folder
    logits = jnp.asarray(ctc_inputs.sure_logits(**sizes))
    frames = jnp.full((sizes["batch"],), sizes["time"])
    search = jax.jit(lambda logits: ctc.beam_search(logits, frames, width=width))
    now: dict[str, Any] = {}

    def run() -> None:
        now["found"] = jax.block_until_ready(search(logits))

    def answers() -> dict[str, Any]:
        return {"labels": np.asarray(now["found"].labels[:, 0], np.float32)}

    return Prepared(run, answers, work=sizes["batch"], unit="sequences")
