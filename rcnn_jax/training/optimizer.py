"""The Optax chain that a config states, and the constraint that its parameters keep."""

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
    """An Optax transformation whose new parameters are put back into a set they must lie in."""

    init: optax.TransformInitFn
    update: optax.TransformUpdateFn
    project: Callable[[PyTree], PyTree]


class Adding(NamedTuple):
    """An Optax transformation with sign and learning rate inside: its updates are added.

    Attributes:
        init: From parameters to the state.
        update: From gradient, state, parameters and the keyword arguments `rate` and `value` to
            updates and state, see `rcnn_jax.training.imported_optimizer`.
        project: Puts new parameters back into the set that they must lie in.
    """

    init: optax.TransformInitFn
    update: Callable[..., tuple[PyTree, PyTree]]
    project: Callable[[PyTree], PyTree]


Optimizer = optax.GradientTransformation | Constrained | Adding


def _is_kernel(path: str) -> bool:
    return path.rsplit("/", 1)[-1].endswith("kernel")


def build(config: Config, params: PyTree, steps: int) -> Optimizer:
    """Makes the optimiser, without its learning rate.

    The order is: frozen parameters out of the gradient, clipping by value, clipping by global
    norm, weight decay (`sgd`, `rmsprop`), momentum, Adam or RMSprop, weight decay (`adam`),
    factors of groups. The norm is that of the gradient whose elements have been clipped, so that
    both bounds hold. Decay is added to the gradient for `sgd` and `rmsprop`, as in the papers of
    the field, and kept apart from Adam's moments for `adam` (Loshchilov & Hutter, 2019); it touches
    only parameters whose name ends in "kernel".

    `rmsprop` (Tieleman & Hinton, lecture 6.5 of Neural networks for machine learning, 2012)
    divides the gradient by `sqrt(mean square) + eps`, where the mean square starts at 0 and takes a
    share `1 - decay` of each gradient's square; momentum gathers what results. With
    `alpha=decay` this is `torch.optim.RMSprop`, not centered. The learning rate meets the
    momentum's sum, so momentum m makes steps up to 1 / (1 - m) times as long.

    Momentum that moves counts its updates in its own state, so that a run resumes where it was.

    A `name` with a colon is the import path of a function that makes an Optax transformation, see
    `rcnn_jax.training.imported_optimizer`: clipping comes before it, factors of groups behind it,
    and what is frozen it does not move.

    Args:
        config: The section `optimizer`.
        params: The parameters, or their shapes.
        steps: The number of training steps.

    Returns:
        A transformation to be handed to `step`. It is `Constrained` where the config sets
        `max_norm`, `Adding` where it names an import path.

    Raises:
        UsageError: A pattern matches no parameter, a bound is set on what has no units, or what an
            import path names cannot be made or used.
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
        # First of all, so that frozen parameters do not count in the norm that is clipped.
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
    """The value of the last pattern that matches the whole path."""
    found = [value for pattern, value in pairs if re.fullmatch(pattern, path)]
    return float(found[-1]) if found else default


def _momentum(config: Config, steps: int) -> list[optax.GradientTransformation]:
    if config.momentum_fraction > 0:
        rise = max(round(config.momentum_fraction * steps), 1)
        decay = optax.linear_schedule(config.momentum, config.momentum_final, rise)
        moving = optax.inject_hyperparams(optax.trace, static_args=("nesterov",))
        return [moving(decay=decay, nesterov=config.nesterov)]
    return [optax.trace(config.momentum, config.nesterov)] if config.momentum > 0 else []


def _max_norms(config: Config, params: PyTree) -> Callable[[PyTree], PyTree]:
    """The projection of every parameter that `config.max_norm` names, but for frozen ones."""
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
    """Takes one step of training.

    Args:
        optimizer: From `build`.
        gradient: Of the loss by the parameters.
        state: The optimiser's.
        params: The parameters.
        rate: `[]` float, the learning rate.
        value: Gives the loss `[]`, for optimisers that read it.

    Returns:
        The new parameters, each leaf in its own type and constrained, and the optimiser's state.
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
    """Takes a step against `updates`, and back into the constraint where there is one.

    Args:
        optimizer: From `build`.
        params: The parameters.
        updates: What its `update` gave.
        learning_rate: `[]` float.

    Returns:
        `params - learning_rate * updates`, each leaf in its own type and constrained.
    """
    moved = jax.tree.map(lambda p, u: p - (learning_rate * u).astype(p.dtype), params, updates)
    return constrain(optimizer, moved)


def constrain(optimizer: Optimizer, params: PyTree) -> PyTree:
    """The parameters, put back into the constraint of the optimiser where it has one."""
    return optimizer.project(params) if isinstance(optimizer, Constrained | Adding) else params
