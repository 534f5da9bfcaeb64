"""The Optax chain that a config describes, and the constraint on its parameters."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcnn_jax.errors import UsageError
from rcnn_jax.layers.maxout import max_norm
from rcnn_jax.training import imported_optimizer, parameters
from rcnn_jax.training.interface import Config, PyTree

Pairs = Sequence[tuple[str, float]]


class Constrained(NamedTuple):
    """Optax transformation whose new parameters are projected onto a constraint set.

    Attributes:
        init: Function from parameters to the state of the optimiser.
        update: Function from gradient, state and parameters to updates and state.
        project: Function that projects new parameters onto the constraint set.
    """

    init: optax.TransformInitFn
    update: optax.TransformUpdateFn
    project: Callable[[PyTree], PyTree]


class Adding(NamedTuple):
    """Optax transformation that applies sign and learning rate itself; its updates are added."""

    init: optax.TransformInitFn
    update: Callable[..., tuple[PyTree, PyTree]]
    project: Callable[[PyTree], PyTree]


Optimizer = optax.GradientTransformation | Constrained | Adding


def _is_kernel(path: str) -> bool:
    return path.rsplit("/", 1)[-1].endswith("kernel")


def build(config: Config, params: PyTree, steps: int) -> Optimizer:
    """Builds the optimiser without its learning rate.

    The chain is, in order: removal of frozen parameters from the gradient, clipping by value,
    clipping by global norm, weight decay (`sgd`, `rmsprop`), momentum, Adam or RMSprop, weight
    decay (`adam`), learning rate factors of groups. The clipped norm is that of the gradient whose
    elements have been clipped already, so that both bounds hold. Weight decay is added to the
    gradient for `sgd` and `rmsprop`, as in the papers of the field, and decoupled from Adam's
    moments for `adam` (Loshchilov & Hutter, 2019). It applies only to parameters whose name ends in
    "kernel".

    `rmsprop` (Tieleman & Hinton, lecture 6.5 of Neural networks for machine learning, 2012) divides
    the gradient by `sqrt(mean square) + eps`, where the mean square starts at 0 and each update
    adds a share `1 - decay` of the squared gradient; momentum accumulates the result. With
    `alpha=decay` this is `torch.optim.RMSprop`, not centered. The learning rate multiplies the
    accumulated momentum, so that momentum m makes steps up to 1 / (1 - m) times as long.

    Momentum that changes over training counts its updates in its own state, so that a run resumes
    where it stopped.

    A `name` with a colon is the import path of a function that makes an Optax transformation; see
    `rcnn_jax.training.imported_optimizer`. Clipping precedes it, factors of groups follow it, and
    it does not move frozen parameters.

    Args:
        config: Section `optimizer` of a complete config.
        params: Parameters of the model, or their shapes.
        steps: Number of training steps of the whole run.

    Returns:
        A transformation to be handed to `step`. It is `Constrained` if the config sets `max_norm`
        and `Adding` if the config names an import path.

    Raises:
        UsageError: A pattern matches no parameter, a norm bound is set on a parameter that has no
            units, or the function of an import path cannot be called or used.
    """
    groups, bounds = config.groups, config.max_norm
    names = list(parameters.flatten(params))
    parameters.require_matches([p for p, _ in groups], names, "config.optimizer.groups")
    parameters.require_matches([p for p, _ in bounds], names, "config.optimizer.max_norm")

    def factor(path: str) -> float:
        return _last_match(groups, path, 1.0)

    def kernels(tree: PyTree) -> PyTree:
        return parameters.map_paths(lambda path, _: _is_kernel(path), tree)

    chain = []
    if any(f == 0 for _, f in groups):
        # It comes first, so that frozen parameters do not count in the norm that is clipped.
        chain.append(_scale_by_path(lambda path: float(factor(path) != 0)))
    if config.clip_value > 0:
        chain.append(optax.clip(config.clip_value))
    if config.clip_norm > 0:
        chain.append(optax.clip_by_global_norm(config.clip_norm))
    decay = [optax.add_decayed_weights(config.weight_decay, mask=kernels)]
    decay = decay if config.weight_decay > 0 else []
    imported = ":" in config.name
    if config.options and not imported:
        raise UsageError(
            f"config.optimizer.options.{next(iter(config.options))} is set, but the arguments of "
            f"config.optimizer.name={config.name!r} are keys of config.optimizer itself."
        )
    if imported:
        chain.append(imported_optimizer.build(config, params, decay))
    elif config.name == "sgd":
        chain += decay
        chain += _momentum(config, steps)
    elif config.name == "rmsprop":
        chain += decay
        chain.append(optax.scale_by_rms(config.decay, config.eps, eps_in_sqrt=False))
        chain += _momentum(config, steps)
    else:
        chain.append(optax.scale_by_adam(config.b1, config.b2, config.eps))
        chain += decay
    if groups:
        chain.append(_scale_by_path(factor))
    chain = optax.chain(*chain) if chain else optax.identity()  # plain gradient descent
    if imported:
        return Adding(chain.init, chain.update, _max_norms(config, params))
    return Constrained(chain.init, chain.update, _max_norms(config, params)) if bounds else chain


def _last_match(pairs: Pairs, path: str, default: float) -> float:
    """Returns the value of the last pattern that matches the whole path."""
    values = [value for pattern, value in pairs if re.fullmatch(pattern, path)]
    return float(values[-1]) if values else default


def _momentum(config: Config, steps: int) -> list[optax.GradientTransformation]:
    if config.momentum_fraction > 0:
        rise = max(round(config.momentum_fraction * steps), 1)
        decay = optax.linear_schedule(config.momentum, config.momentum_final, rise)
        moving = optax.inject_hyperparams(optax.trace, static_args=("nesterov",))
        return [moving(decay=decay, nesterov=config.nesterov)]
    return [optax.trace(config.momentum, config.nesterov)] if config.momentum > 0 else []


def _max_norms(config: Config, params: PyTree) -> Callable[[PyTree], PyTree]:
    """Returns the projection of all parameters that `config.max_norm` names, except frozen ones."""
    bounds = {}
    for path, leaf in parameters.flatten(params).items():
        bound = _last_match(config.max_norm, path, 0.0)
        if bound and len(leaf.shape) < 2:
            raise UsageError(
                f"config.optimizer.max_norm={config.max_norm} names {path!r} of shape {leaf.shape},"
                " which has no incoming weights; as in 'conv.*/kernel', a pattern names kernels."
            )
        if bound and _last_match(config.groups, path, 1.0):
            bounds[path] = bound

    def project(params: PyTree) -> PyTree:
        return parameters.map_paths(
            lambda path, p: max_norm(p, bounds[path]) if path in bounds else p, params
        )

    return project


def _scale_by_path(factor) -> optax.GradientTransformation:
    def update(updates: PyTree, params: PyTree = None) -> PyTree:
        del params
        return parameters.map_paths(
            lambda path, g: jnp.zeros_like(g) if factor(path) == 0 else g * factor(path), updates
        )

    return optax.stateless(update)


def step(
    optimizer: Optimizer,
    gradient: PyTree,
    state: PyTree,
    params: PyTree,
    rate: jax.Array,
    value: Callable[[], jax.Array],
) -> tuple[PyTree, PyTree]:
    """Computes the new parameters and optimiser state of one training step.

    Args:
        optimizer: Optimiser from `build`.
        gradient: Gradient of the loss with respect to the parameters.
        state: State of the optimiser.
        params: Parameters before the step.
        rate: Learning rate, float `[]`.
        value: Function that computes the loss `[]`, for optimisers that read it.

    Returns:
        The new parameters, projected onto the constraint, each leaf in its type before the step;
        and the new state of the optimiser.
    """
    if isinstance(optimizer, Adding):
        updates, state = optimizer.update(gradient, state, params, rate=rate, value=value())
        return constrain(optimizer, optax.apply_updates(params, updates)), state
    updates, state = optimizer.update(gradient, state, params)
    return apply(optimizer, params, updates, rate), state


def apply(
    optimizer: optax.GradientTransformation | Constrained,
    params: PyTree,
    updates: PyTree,
    learning_rate: jax.Array,
) -> PyTree:
    """Moves parameters against `updates` and projects them onto the constraint, if there is one.

    Args:
        optimizer: Optimiser from `build`.
        params: Parameters before the step.
        updates: Updates that the optimiser's `update` returned.
        learning_rate: Learning rate, float `[]`.

    Returns:
        `params - learning_rate * updates`, projected onto the constraint, each leaf in its type
        before the step.
    """
    moved = jax.tree.map(lambda p, u: p - (learning_rate * u).astype(p.dtype), params, updates)
    return constrain(optimizer, moved)


def constrain(optimizer: Optimizer, params: PyTree) -> PyTree:
    """Projects parameters onto the constraint of the optimiser, if it has one.

    Args:
        optimizer: Optimiser from `build`.
        params: Parameters of the model.

    Returns:
        The projected parameters.
    """
    return optimizer.project(params) if isinstance(optimizer, Constrained | Adding) else params
