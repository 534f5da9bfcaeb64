"""This project's side of the captioning rows."""

import functools
import pathlib
from typing import Any

import caption_inputs
import jax
import jax.numpy as jnp
import numpy as np
import optax
from row import Prepared

from rcnn_jax.decoding.beam import beam_search
from rcnn_jax.models.captioner import Captioner, multimodal_rnn
from rcnn_jax.training import parameters


def _model(classes: int, features: int, hidden: int, size: int) -> tuple[Captioner, Any]:
    model = multimodal_rnn(
        classes, features=features, hidden=hidden, dropout=0.0, output_dropout=0.0
    )
    w = jax.device_put(caption_inputs.weights(classes, features, hidden, size))
    cell = {name: w[name] for name in ("kernel", "recurrent_kernel", "bias")}
    outside = {name: w[name] for name in ("word_embedding", "head_kernel", "head_bias")}
    return model, {
        **outside,
        "image_encoder": {"kernel": w["image_kernel"]},
        "recurrent": cell,
    }


def training(
    folder: pathlib.Path,
    *,
    batch: int,
    steps: int,
    classes: int,
    features: int,
    hidden: int,
    size: int,
) -> Prepared:
    """Forward, backward and the update of RMSprop.

    Args:
        folder: unused, the weights are drawn anew by each side.
        batch: pairs of a picture and a sentence.
        steps: words of a sentence, its end counted.
        classes: words of the vocabulary.
        features: length of a word's vector.
        hidden: units of the recurrent layer.
        size: length of a picture's vector.
    """
    del folder
    model, params = _model(classes, features, hidden, size)
    host_vectors, host_sentences = caption_inputs.pairs(batch, steps, classes, size)
    vectors, targets = jnp.asarray(host_vectors), jnp.asarray(host_sentences)[:, None]
    optimizer = optax.rmsprop(1e-3, decay=0.999, eps=1e-8)

    def loss(params: Any) -> jax.Array:
        logits: Any = model.apply({"params": params}, vectors, train=True, targets=targets)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, change), state, value

    start = jax.tree.map(jnp.copy, params)  # the first step takes the others
    now: dict[str, Any] = {"all": (params, jax.jit(optimizer.init)(params), None)}

    def run() -> None:
        now["all"] = jax.block_until_ready(step(*now["all"][:2]))

    def answers() -> dict[str, Any]:
        gradient = parameters.flatten(jax.jit(jax.grad(loss))(start))
        return {"loss": np.asarray(now["all"][2]), "gradient": jax.device_get(gradient)}

    return Prepared(run, answers, work=batch * steps, unit="words")


def search(
    folder: pathlib.Path,
    *,
    batch: int,
    steps: int,
    width: int,
    classes: int,
    features: int,
    hidden: int,
    size: int,
) -> Prepared:
    """Beam search for the sentence of each picture, with `width` sentences in the beam.

    The other arguments are as for `training`.
    """
    del folder
    model, params = _model(classes, features, hidden, size)
    vectors = jnp.asarray(caption_inputs.pairs(batch, steps, classes, size)[0])
    ids = {"start_id": caption_inputs.BOS, "end_id": caption_inputs.EOS}
    banned = (caption_inputs.UNK, caption_inputs.BOS)

    @jax.jit
    def find(params: Any, vectors: jax.Array) -> Any:
        variables = {"params": params}

        def step(ids: jax.Array, state: Any) -> Any:
            logits, state = model.apply(  # pyright: ignore[reportAssignmentType]
                variables, ids[:, None], state, train=False, method="decode"
            )
            return logits[:, 0], state  # pyright: ignore[reportIndexIssue]

        state = model.apply(variables, vectors, train=False, method="begin")
        return beam_search(step, state, batch, width=width, steps=steps, banned=banned, **ids)

    now: dict[str, Any] = {}

    def run() -> None:
        now["found"] = jax.block_until_ready(find(params, vectors))

    def answers() -> dict[str, Any]:
        found = now["found"]
        return {
            "ids": np.asarray(found.ids[:, 0], np.float32),
            "log-probabilities": np.asarray(found.log_probs[:, 0]),
        }

    return Prepared(run, answers, work=batch, unit="captions")
