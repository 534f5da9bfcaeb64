"""Everything that a training run must remember to go on exactly where it was."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from rcnn_jax.training.interface import PyTree, Task
from rcnn_jax.training.schedules import Plateau


class TrainState(flax.struct.PyTreeNode):
    """The state between two steps: all arrays, all of it saved."""

    step: jax.Array  # [] int32: how many steps have been taken
    params: PyTree
    model_state: PyTree  # batch statistics
    opt_state: PyTree
    plateau: PyTree  # of the learning rate's reduction, () where there is none
    rate_scale: jax.Array  # [] float32: a factor of the learning rate, lowered after a divergence
    carry: PyTree  # recurrent state handed from batch to batch, () where there is none
    ema: PyTree  # averages: {"params": ..., "model_state": ...}, None where there are none
    key: jax.Array  # [] the run's random key; step t uses fold_in(key, t)

    def evaluated(self) -> tuple[PyTree, PyTree]:
        """What evaluation and prediction use: (params, model_state), averaged if so chosen."""
        if self.ema is None:
            return self.params, self.model_state
        return self.ema["params"], self.ema["model_state"]


class Variables(flax.struct.PyTreeNode):
    """The part of a state that evaluation and prediction use, averaged if so chosen."""

    params: PyTree
    model_state: PyTree  # batch statistics

    def evaluated(self) -> tuple[PyTree, PyTree]:
        """(params, model_state), as `TrainState.evaluated` gives them."""
        return self.params, self.model_state


def create(
    task: Task,
    optimizer: optax.GradientTransformation,
    plateau: Plateau,
    batch: Any,
    *,
    seed: int,
    ema: bool,
) -> TrainState:
    """Makes the state before the first step.

    Args:
        task: What is trained.
        optimizer: The optimiser without its learning rate.
        plateau: The rule that lowers the learning rate at evaluations.
        batch: A training batch, or its shapes; only shapes matter.
        seed: Of the initial weights and of all later randomness.
        ema: Whether averages are kept.

    Returns:
        The state at step 0.
    """
    init_key, run_key = jax.random.split(jax.random.key(seed))
    params, model_state = task.init(init_key, batch)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(params),
        plateau=plateau.init(),
        rate_scale=jnp.ones((), jnp.float32),
        carry=task.initial_carry(jax.tree.leaves(batch)[0].shape[0]),
        # A copy, because the step gives its input's memory away and may do so only once.
        ema=(
            jax.tree.map(jnp.copy, {"params": params, "model_state": model_state}) if ema else None
        ),
        key=run_key,
    )
