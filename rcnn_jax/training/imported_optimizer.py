"""Optimisers that a config names by import path, such as `optax:lion` or one of a fork.

The path names a function, and `config.optimizer.options` holds its arguments. There are two kinds:

- A function with an argument `learning_rate`, such as `optax:lion`, makes an optimiser that applies
  the rate and the sign itself. It receives the rate of `config.schedule` at each step, after any
  reduction by a plateau or a divergence, and its updates are added to the parameters.
- A function without it, such as `optax:scale_by_lion`, makes a transformation that yields a
  direction. It is followed by `config.optimizer.weight_decay`, which is decoupled and applies to
  kernels alone, and by `optax.scale_by_learning_rate`.

The function is called once for each trace of the step and must not keep anything between calls. It
returns an `optax.GradientTransformation`. A transformation with extra arguments receives `value`,
the mean loss of the batch, if it accepts that argument.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rcnn_jax.configuration import importing
from rcnn_jax.configuration.schema import DEFAULTS
from rcnn_jax.errors import UsageError, UserError, describe, fork_location
from rcnn_jax.training.interface import Config, PyTree

RATE = "learning_rate"

# Keys of the section that apply to every optimiser; all others are arguments of the short names.
_FOR_ALL = ("name", "options", "weight_decay", "clip_value", "clip_norm", "groups", "max_norm")

_KEY, _OPTIONS = "config.optimizer.name", "config.optimizer.options"


def build(
    config: Config, params: PyTree, decay: Sequence[optax.GradientTransformation]
) -> optax.GradientTransformationExtraArgs:
    """Builds the optimiser that the section `optimizer` names by import path.

    Args:
        config: Section `optimizer` of a complete config.
        params: Parameters of the model, or their shapes.
        decay: Transformations of the section's weight decay, which follow a function that yields a
            direction.

    Returns:
        A transformation whose update takes the keyword arguments `rate`, the learning rate `[]`,
        and `value`, the mean loss `[]`. Its updates are to be added to the parameters.

    Raises:
        UsageError: The function cannot be imported or called, does not make an optimiser, or makes
            one that cannot be used with a changing learning rate; or a key of the section has no
            meaning for it.
    """
    path = config.name
    target = importing.resolve(path, _KEY)
    if not callable(target):
        raise UsageError(
            f"{_KEY}={path!r} is a {type(target).__name__}, not a function that makes an optimiser."
        )
    allowed = importing.arguments(target)
    _check_keys(config, allowed)
    options = importing.checked(config.options, _OPTIONS, path, allowed)

    def make(rate: jax.Array) -> optax.GradientTransformationExtraArgs:
        made = importing.call(target, path, _OPTIONS, {RATE: rate}, options)
        if not all(callable(getattr(made, name, None)) for name in ("init", "update")):
            raise UsageError(
                f"{_KEY}={path!r} makes a {type(made).__name__}, not an "
                "optax.GradientTransformation."
            )
        made = _with_the_extra_arguments_it_takes(made)
        if RATE in allowed:
            return made
        return optax.chain(made, *decay, optax.scale_by_learning_rate(rate))

    def init(params: PyTree) -> PyTree:
        return make(jnp.ones(())).init(params)  # the state must not depend on the rate

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        return make(extra["rate"]).update(updates, state, params, value=extra["value"])

    _check_use(path, make, params)
    _check_direction(path, make, RATE in allowed)
    return optax.GradientTransformationExtraArgs(init, update)


def _check_keys(config: Config, allowed: dict[str, Any]) -> None:
    """Raises a `UsageError` for keys of the section that mean nothing to an imported optimiser."""
    path, defaults = config.name, DEFAULTS["optimizer"]
    for key, default in defaults.items():
        value = getattr(config, key)
        if key not in _FOR_ALL and value != default:
            raise UsageError(
                f"config.optimizer.{key}={value!r} is for the short names 'sgd', 'adam' and "
                f"'rmsprop'; the arguments of {path} are stated in {_OPTIONS}."
            )
    if RATE in config.options:
        raise UsageError(
            f"{_OPTIONS}.{RATE}: {path} is handed the learning rate of config.schedule; set "
            "config.schedule.value."
        )
    if config.weight_decay > 0 and RATE in allowed:
        there = "weight_decay" in allowed
        way = f"set {_OPTIONS}.weight_decay, or" if there else "it takes no decay:"
        raise UsageError(
            f"config.optimizer.weight_decay={config.weight_decay} has no place in {path}, which "
            f"has the learning rate inside: {way} name a function without {RATE!r}, such as "
            "'optax:scale_by_lion', whose direction is joined by the decay of kernels."
        )


def _with_the_extra_arguments_it_takes(made: Any) -> optax.GradientTransformationExtraArgs:
    """Wraps a transformation so that its update receives only the extra arguments that it names."""
    parameters = inspect.signature(made.update).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters}

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        taken = {k: v for k, v in extra.items() if takes_all or k in names}
        return made.update(updates, state, params, **taken)

    return optax.GradientTransformationExtraArgs(made.init, update)


Make = Callable[[jax.Array], optax.GradientTransformationExtraArgs]


def _check_use(path: str, make: Make, params: PyTree) -> None:
    """Traces an update, so that an unusable optimiser is reported before training starts.

    Raises:
        UsageError: The update raises an error, its state depends on the learning rate or changes
            its shape, or its updates differ in structure from the parameters.
    """

    def init(rate: jax.Array, params: PyTree) -> PyTree:
        return make(rate).init(params)

    def update(rate: jax.Array, value: jax.Array, state: PyTree, params: PyTree) -> Any:
        return make(rate).update(params, state, params, value=value)

    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    try:
        traced = jax.make_jaxpr(init, return_shape=True)(scalar, shapes)
        program, state = traced
        updates, after = jax.eval_shape(update, scalar, scalar, state, shapes)
    except Exception as error:
        raise _impossible(path, error) from error
    if _reads_the_first_input(program.jaxpr):
        raise UsageError(
            f"{_KEY}={path!r}: its state begins with the learning rate, which is another one at "
            "every step and none before the first."
        )
    for name, one, other in (("state", state, after), ("updates", shapes, updates)):
        if _signature(one) != _signature(other):
            raise UsageError(
                f"{_KEY}={path!r}: an update gives {name} of another structure, shape or type "
                f"than {'the state before it' if name == 'state' else 'the parameters'}."
            )


def _impossible(path: str, error: Exception) -> UserError:
    """Returns the error to raise for an exception that occurred while an update was traced."""
    cause = error.__cause__ if isinstance(error, UsageError) else error
    if isinstance(cause, jax.errors.ConcretizationTypeError):
        place = fork_location(cause, path)
        where = f" ({place})" if place else ""
        return UsageError(
            f"{_KEY}={path!r} reads a value that is not known while a step is compiled{where}: "
            "the learning rate, the loss and the gradient are traced there."
        )
    if isinstance(error, UserError):
        return error
    return UsageError(f"{_KEY}={path!r} cannot be used: {describe(error, path)}.")


def _signature(tree: PyTree) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(tuple(leaf.shape), leaf.dtype) for leaf in leaves]


def _reads_the_first_input(program: Any) -> bool:
    """Returns whether an output of a traced function depends on its first input."""
    needed = {id(variable) for variable in program.outvars}
    for equation in reversed(program.eqns):
        if any(id(variable) in needed for variable in equation.outvars):
            needed |= {id(variable) for variable in equation.invars}
    return id(program.invars[0]) in needed


def _check_direction(path: str, make: Make, rated: bool) -> None:
    """Takes one update of a kernel of zeros to see whether it descends.

    Raises:
        UsageError: The update ascends: a function without `learning_rate` applies the sign itself,
            or a function with it does not.
    """
    gradient = {"kernel": jnp.array([[0.5, -0.25], [0.125, 1.0]])}
    zeros = jax.tree.map(jnp.zeros_like, gradient)

    def along_gradient(rate: jax.Array) -> jax.Array:
        made = make(rate)
        updates: Any = made.update(gradient, made.init(zeros), zeros, value=jnp.ones(()))[0]
        return jnp.vdot(updates["kernel"], gradient["kernel"])

    try:
        climbs = float(jax.jit(along_gradient)(jnp.full((), 0.1))) > 0
    except Exception:  # noqa: BLE001 - an optimiser for specific parameters cannot be tried here
        return
    if climbs:
        why = (
            f"one that takes {RATE!r} has the sign inside, as optax.scale_by_learning_rate gives it"
            if rated
            else f"one without an argument {RATE!r} gives a direction whose sign is turned "
            "afterwards, as 'optax:scale_by_lion' does"
        )
        raise UsageError(f"{_KEY}={path!r} would climb: {why}.")
