"""Learning rates over the course of training, from the config's section `schedule`.

A `name` with a colon is the import path of a function that makes a schedule, such as
`optax:cosine_onecycle_schedule`, and `options` holds its arguments. Two of them are filled in where
`options` does not state them:

| what | goes to the first of these arguments that the function has |
|---|---|
| the number of steps (after the warm-up) | `STEP_ARGUMENTS`: `transition_steps`, `decay_steps`, `total_steps`, `num_steps`, `steps` |
| `config.schedule.value` | `VALUE_ARGUMENTS`: `peak_value`, `value`, `learning_rate`, `init_value` |

All others are in `options`. The schedule is a function from the step (0-based, traced) to the rate,
and follows a linear rise from 0 to its first rate where `config.schedule.warmup_fraction` is set.
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
    """Makes the schedule that the config names.

    Args:
        config: The section `schedule`. `constant` holds `value`; `cosine` falls along half a
            period, `triangular` along a line and `exponential` by the same factor at every step,
            to `final_fraction * value` at the last step;
            `stepwise` multiplies by `factor` at each of `boundaries` (fractions of all steps);
            `plateau` holds `value` here and is lowered by `plateau` at evaluations. All rise
            linearly from 0 over the first `warmup_fraction` of the steps. For an import path see
            the module's docstring.
        steps: The number of training steps.

    Returns:
        A function from the step (0-based) to the learning rate.

    Raises:
        UsageError: What an import path names cannot be made or gives no rate, or a key of the
            section has no meaning for what `name` is.
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
    """The schedule that an import path names."""
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

    A metric that does not improve for `patience` evaluations after the best one multiplies the
    rate by `factor`. The state belongs in the training state, and so in every checkpoint.
    """

    def __init__(self, config: Config, mode: str):
        """Makes the rule from the section `schedule`.

        Args:
            config: The section; only `plateau` makes a rule that ever lowers anything.
            mode: "min" when a lower metric is better, "max" otherwise.
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
        """The state before the first evaluation; `()` where the rule is not in use."""
        return self._rule.init(jnp.zeros((), jnp.float32)) if self._active else ()

    def scale(self, state: PyTree) -> jax.Array | float:
        """What the learning rate is multiplied by, `[]`."""
        return state.scale if self._active else 1.0

    def update(self, state: PyTree, metric: float) -> PyTree:
        """The state after an evaluation that gave `metric`; one that is not finite is no gain."""
        if not self._active:
            return state
        value = jnp.asarray(self._sign * metric, jnp.float32)
        value = jnp.where(jnp.isfinite(value), value, jnp.inf)
        return self._rule.update(jnp.zeros(()), state, value=value)[1]
