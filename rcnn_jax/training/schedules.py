"""Learning rates over the course of training, from the config's section `schedule`."""

import jax
import jax.numpy as jnp
import optax

from rcnn_jax.training.interface import Config, PyTree


def build(config: Config, steps: int) -> optax.Schedule:
    """Makes the schedule that the config names.

    Args:
        config: The section `schedule`. `constant` holds `value`; `cosine` falls along half a
            period, `triangular` along a line and `exponential` by the same factor at every step,
            to `final_fraction * value` at the last step;
            `stepwise` multiplies by `factor` at each of `boundaries` (fractions of all steps);
            `plateau` holds `value` here and is lowered by `plateau` at evaluations. All rise
            linearly from 0 over the first `warmup_fraction` of the steps.
        steps: The number of training steps.

    Returns:
        A function from the step (0-based) to the learning rate.
    """
    value, warmup = config.value, round(config.warmup_fraction * steps)
    rest = max(steps - warmup, 1)
    if config.name in ("constant", "plateau"):
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
