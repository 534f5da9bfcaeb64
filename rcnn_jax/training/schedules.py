"""Learning rates over the course of training, from the section `schedule` of a config.

A `name` with a colon is the import path of a function that makes a schedule, such as
`optax:cosine_onecycle_schedule`, and `options` holds its arguments. Two arguments are filled in
unless `options` states them:

| quantity | passed as the first of these arguments that the function has |
|---|---|
| the number of steps (after the warm-up) | `STEP_ARGUMENTS`: `transition_steps`, `decay_steps`, `total_steps`, `num_steps`, `steps` |
| `config.schedule.value` | `VALUE_ARGUMENTS`: `peak_value`, `value`, `learning_rate`, `init_value` |

All other arguments come from `options`. The schedule is a function from the step (0-based, traced)
to the rate. If `config.schedule.warmup_fraction` is above 0, a linear rise from 0 to its first rate
precedes it.
"""  # noqa: E501

from typing import cast

import jax
import jax.numpy as jnp
import optax

from rcnn_jax.configuration import importing
from rcnn_jax.configuration.schema import DEFAULTS
from rcnn_jax.errors import UsageError, describe
from rcnn_jax.training.interface import Config, PyTree

STEP_ARGUMENTS = ("transition_steps", "decay_steps", "total_steps", "num_steps", "steps")
VALUE_ARGUMENTS = ("peak_value", "value", "learning_rate", "init_value")


def build(config: Config, steps: int) -> optax.Schedule:
    """Builds the schedule that a config describes.

    `config.name` selects one of:

    - `constant`: the rate stays at `value`.
    - `cosine`, `triangular`, `exponential`: the rate falls towards `final_fraction * value`, along
      half a period of a cosine, along a line, or by the same factor at every step. It would be
      reached one step after the last, as with Optax's schedules: a line from 1 to 0 over 100 steps
      has the rate 0.01 at its last step.
    - `stepwise`: the rate is multiplied by `factor` at each of `boundaries`, which are fractions of
      all steps.
    - `plateau`: the rate stays at `value` here, and `Plateau` lowers it at evaluations.
    - An import path: see the docstring of this module.

    All of them rise linearly from 0 over the first `warmup_fraction` of the steps.

    Args:
        config: Section `schedule` of a complete config.
        steps: Number of training steps of the whole run.

    Returns:
        A function from the step (0-based) to the learning rate.

    Raises:
        UsageError: The function of an import path cannot be called or yields no rate, or a key of
            the section has no meaning for the schedule that `name` selects.
    """
    value, warmup = config.value, round(config.warmup_fraction * steps)
    rest = max(steps - warmup, 1)
    if config.options and ":" not in config.name:
        raise UsageError(
            f"config.schedule.options.{next(iter(config.options))} is set, but the arguments of "
            f"config.schedule.name={config.name!r} are keys of config.schedule itself."
        )
    if ":" in config.name:
        after = _imported(config, rest)
        value = after(0)
    elif config.name in ("constant", "plateau"):
        after = optax.constant_schedule(value)
    elif config.name == "cosine":
        after = optax.cosine_decay_schedule(value, rest, alpha=config.final_fraction)
    elif config.name == "triangular":
        after = optax.linear_schedule(value, config.final_fraction * value, rest)
    elif config.name == "exponential":
        after = optax.exponential_decay(value, rest, config.final_fraction)
    else:
        scales: dict[int, float] = {}
        for fraction in config.boundaries:
            boundary = round(fraction * steps) - warmup
            scales[boundary] = scales.get(boundary, 1.0) * config.factor
        after = optax.piecewise_constant_schedule(value, scales)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, value, warmup), after], [warmup])


def _imported(config: Config, steps: int) -> optax.Schedule:
    """Builds the schedule that an import path names."""
    path, key, origin = config.name, "config.schedule.name", "config.schedule.options"
    for name, default in DEFAULTS["schedule"].items():
        stated = getattr(config, name)
        if name not in ("name", "options", "value", "warmup_fraction") and stated != default:
            raise UsageError(
                f"config.schedule.{name}={stated!r} is for the short names of schedules; the "
                f"arguments of {path} are stated in {origin}."
            )
    target = importing.resolve(path, key)
    if not callable(target):
        raise UsageError(
            f"{key}={path!r} is a {type(target).__name__}, not a function that makes a schedule."
        )
    allowed = importing.arguments(target)
    options = importing.checked(config.options, origin, path, allowed)
    given = {
        name: amount
        for names, amount in ((STEP_ARGUMENTS, steps), (VALUE_ARGUMENTS, config.value))
        for name in [name for name in names if name in allowed][:1]
    }
    schedule = importing.call(target, path, origin, given, options)
    if not callable(schedule):
        raise UsageError(
            f"{key}={path!r} makes a {type(schedule).__name__}, not a schedule: a function from "
            "the step to the learning rate."
        )
    try:
        rate = jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.int32))
    except Exception as error:
        raise UsageError(f"{key}={path!r} cannot be used: {describe(error, path)}.") from error
    if getattr(rate, "shape", None) != ():
        given_instead = getattr(rate, "shape", None) or type(rate).__name__
        raise UsageError(
            f"{key}={path!r} gives no single number as learning rate, but {given_instead}."
        )
    return cast(optax.Schedule, schedule)


class Plateau:
    """Lowers the learning rate when the evaluation metric stalls.

    If the metric does not improve on its best value for `patience` evaluations, the rate is
    multiplied by `factor`. The state of the rule is part of the training state, and so of every
    checkpoint.
    """

    def __init__(self, config: Config, mode: str):
        """Makes the rule from the section `schedule`.

        Args:
            config: Section `schedule` of a complete config. The rule is inactive unless its `name`
                is `plateau`.
            mode: "min" if lower values of the metric are better, "max" if higher values are better.
        """
        self._active = config.name == "plateau"
        self._sign = 1.0 if mode == "min" else -1.0
        self._rule = optax.contrib.reduce_on_plateau(
            factor=config.factor if self._active else 0.5,
            patience=config.patience,
            rtol=0.0,
            atol=1e-9,  # one of the tolerances must be positive
            min_scale=config.min_scale,
        )

    def init(self) -> PyTree:
        """Returns the state before the first evaluation; `()` if the rule is inactive."""
        return self._rule.init(jnp.zeros((), jnp.float32)) if self._active else ()

    def scale(self, state: PyTree) -> jax.Array | float:
        """Returns the factor of the learning rate.

        Args:
            state: State of the rule.

        Returns:
            The factor, `[]`; 1 if the rule is inactive.
        """
        return state.scale if self._active else 1.0

    def update(self, state: PyTree, metric: float) -> PyTree:
        """Returns the state after an evaluation.

        Args:
            state: State of the rule before the evaluation.
            metric: Value of the metric. A value that is not finite counts as no improvement.

        Returns:
            The new state.
        """
        if not self._active:
            return state
        value = jnp.asarray(self._sign * metric, jnp.float32)
        value = jnp.where(jnp.isfinite(value), value, jnp.inf)
        return self._rule.update(jnp.zeros(()), state, value=value)[1]
