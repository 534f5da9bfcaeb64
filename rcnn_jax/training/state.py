"""The complete state of a training run, from which it continues exactly where it was."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from rcnn_jax.training.interface import PyTree, Task
from rcnn_jax.training.schedules import Plateau


class TrainState(flax.struct.PyTreeNode):
    """State between two training steps; all of it consists of arrays and all of it is saved.

    Attributes:
        step: Number of steps that have been taken, `int32[]`.
        params: Parameters of the model.
        model_state: Batch statistics of the model.
        opt_state: State of the optimiser.
        plateau: State of the plateau rule of the learning rate, `()` without such a rule.
        rate_scale: Factor of the learning rate, `float32[]`, which is lowered after a divergence.
        carry: Recurrent state that is handed from batch to batch, `()` for a task without one.
        ema: Averages `{"params": ..., "model_state": ...}`, None if none are kept.
        key: Random key of the run, `[]`; step t uses `fold_in(key, t)`.
    """

    step: jax.Array
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    plateau: PyTree
    rate_scale: jax.Array
    carry: PyTree
    ema: PyTree
    key: jax.Array

    def evaluated(self) -> tuple[PyTree, PyTree]:
        """Returns the variables that evaluation and prediction use.

        Returns:
            Pair (params, model_state): the averages if they are kept, else the current values.
        """
        if self.ema is None:
            return self.params, self.model_state
        return self.ema["params"], self.ema["model_state"]


class Variables(flax.struct.PyTreeNode):
    """Part of a training state that evaluation and prediction use: the averages if they are kept.

    Attributes:
        params: Parameters of the model.
        model_state: Batch statistics of the model.
    """

    params: PyTree
    model_state: PyTree

    def evaluated(self) -> tuple[PyTree, PyTree]:
        """Returns the variables that evaluation and prediction use.

        Returns:
            Pair (params, model_state).
        """
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
    """Creates the state before the first step.

    Args:
        task: Task that is trained.
        optimizer: Optimiser without its learning rate.
        plateau: Rule that lowers the learning rate at evaluations.
        batch: Training batch, or its shapes; its values do not matter.
        seed: Seed of the initial weights and of all later randomness.
        ema: Whether averages of the variables are kept.

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
        # A copy, because a step donates each buffer of its input and may do so only once.
        ema=(
            jax.tree.map(jnp.copy, {"params": params, "model_state": model_state}) if ema else None
        ),
        key=run_key,
    )
