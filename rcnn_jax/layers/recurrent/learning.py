"""Learning algorithms other than backpropagation through whole sequences, and gradient flow.

They process one step at a time and serve as an independent check of the layers, as teaching
material, and for figures. They are far slower than the layers.

References:
    Williams & Zipser, A learning algorithm for continually running fully recurrent neural networks,
    Neural Computation 1989 (real-time recurrent learning);
    Williams & Peng, An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories, Neural Computation 1990 (truncated backpropagation through time);
    Bengio, Simard & Frasconi, Learning long-term dependencies with gradient descent is difficult,
    IEEE Transactions on Neural Networks 1994 (gradient through time).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree, Shaped

from rcnn_jax.layers.recurrent.cell import Cell
from rcnn_jax.layers.recurrent.layer import run_cell
from rcnn_jax.layers.recurrent.scan import Arrays

Loss = Callable[[Array, Array], Array]
"""Loss of one step, a scalar: `loss(output [batch, output_features], target [batch, ...])`."""


def one_step(
    cell: Cell, weights: Arrays, carry: Arrays, x: Float[Array, "batch features"]
) -> tuple[Float[Array, "batch outputs"], Arrays]:
    """Computes one time step of a cell, differentiable in forward and reverse mode.

    Args:
        cell: Recurrent cell.
        weights: All weights of the cell by name.
        carry: State before the step, parts `[batch, length]` by name.
        x: Input of the step, `[batch, features]`.

    Returns:
        A pair of the output `[batch, output_features]` and the next carry.
    """
    outputs, carry = run_cell(cell, weights, x[:, None], carry, implementation="autodiff")
    return outputs[:, 0], carry


def rtrl(
    cell: Cell,
    weights: Arrays,
    carry: Arrays,
    x: Float[Array, "batch time features"],
    targets: Shaped[Array, "batch time *rest"],
    loss: Loss,
) -> tuple[Float[Array, "time"], Arrays]:
    """Computes exact gradients forward in time, by real-time recurrent learning.

    The sensitivity `S(t) = d carry(t) / d weights` is updated with the state,

        S(t) = J_carry S(t-1) + J_weights,   d loss(t) / d weights = its image under the loss,

    so that no past states are stored. A step costs as many forward derivatives as there are
    weights.

    Args:
        cell: Recurrent cell of any kind.
        weights: All weights of the cell by name.
        carry: State before the first step, treated as a constant.
        x: Inputs `[batch, time, features]`.
        targets: Targets of the steps, `[batch, time, ...]`.
        loss: Loss of one step, a function of its output and target.

    Returns:
        A pair of the loss of each step `[time]`, and its gradient with leaves `[time, ...]`. The
        sum of the gradients over time is the gradient of backpropagation through time.
    """
    flat, unravel = ravel_pytree(weights)
    directions = jnp.eye(flat.size, dtype=flat.dtype)

    def step(state: tuple[Arrays, Arrays], inputs: tuple[Array, Array]) -> PyTree:
        carry, sensitivity = state
        now, target = inputs

        def advance(flat: Array, carry: Arrays) -> tuple[Array, Arrays]:
            output, after = one_step(cell, unravel(flat), carry, now)
            return loss(output, target), after

        def along(direction: Array, moved: Arrays) -> PyTree:
            return jax.jvp(advance, (flat, carry), (direction, moved))

        # The values are computed for each direction, and are all equal.
        (losses, after), (gradient, sensitivity) = jax.vmap(along)(directions, sensitivity)
        after = jax.tree.map(lambda value: value[0], after)
        return (after, sensitivity), (losses[0], gradient)

    start = jax.tree.map(lambda value: jnp.zeros((flat.size, *value.shape), value.dtype), carry)
    inputs = (x.swapaxes(0, 1), targets.swapaxes(0, 1))
    _, (losses, gradients) = lax.scan(step, (carry, start), inputs)
    return losses, jax.vmap(unravel)(gradients)


def truncated_bptt(
    cell: Cell,
    weights: Arrays,
    carry: Arrays,
    x: Float[Array, "batch time features"],
    targets: Shaped[Array, "batch time *rest"],
    loss: Loss,
    *,
    steps: int,
) -> tuple[Float[Array, "time"], Arrays]:
    """Backpropagates the loss of each step through the last `steps` steps, including that step.

    Args:
        cell: Recurrent cell of any kind.
        weights: All weights of the cell by name.
        carry: State before the first step, treated as a constant.
        x: Inputs `[batch, time, features]`.
        targets: Targets of the steps, `[batch, time, ...]`.
        loss: Loss of one step, a function of its output and target.
        steps: Number of steps that are unfolded, at least 1; from `time` on the gradient is exact.

    Returns:
        A pair of the loss of each step `[time]`, and its gradient with leaves `[time, ...]`.

    Raises:
        ValueError: If `steps` is not positive.
    """
    if steps < 1:
        raise ValueError(f"truncated BPTT unfolds at least 1 step, got steps={steps}")
    carries, state = [], carry
    losses, gradients = [], []
    for now in range(x.shape[1]):
        carries.append(state)
        first = max(0, now - steps + 1)

        def unfolded(weights: Arrays, first: int = first, now: int = now) -> Array:
            outputs, _ = run_cell(cell, weights, x[:, first : now + 1], carries[first])
            return loss(outputs[:, -1], targets[:, now])

        value, gradient = jax.value_and_grad(unfolded)(weights)
        losses.append(value)
        gradients.append(gradient)
        _, state = one_step(cell, weights, state, x[:, now])
    return jnp.stack(losses), jax.tree.map(lambda *of_steps: jnp.stack(of_steps), *gradients)


def gradient_through_time(
    cell: Cell,
    weights: Arrays,
    carry: Arrays,
    x: Float[Array, "batch time features"],
    loss: Callable[[Array], Array],
) -> dict[str, Float[Array, "time batch"]]:
    """Measures the gradient of the last step's loss with respect to each earlier state.

    Args:
        cell: Recurrent cell of any kind.
        weights: All weights of the cell by name.
        carry: State before the first step, parts `[batch, length]` by name.
        x: Inputs `[batch, time, features]`.
        loss: Function from the last output `[batch, output_features]` to a scalar that is a sum
            over examples.

    Returns:
        For each part of the carry, Euclidean norms `[time, batch]` of the gradient of the loss with
        respect to that part after t steps, t = 0..time-1. Parts at the same time count as
        independent of each other, such as the memory and the hidden vector of an LSTM.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.recurrent.layer import zero_carry
        >>> from rcnn_jax.layers.recurrent.learning import gradient_through_time
        >>> from rcnn_jax.layers.recurrent.simple_cells import Elman
        >>> cell, one = Elman(1, activation="identity"), jnp.ones((1, 1))
        >>> weights = {"kernel": one, "recurrent_kernel": one / 2, "bias": jnp.zeros(1)}
        >>> x = jnp.ones((1, 3, 1))
        >>> norms = gradient_through_time(cell, weights, zero_carry(cell, 1), x, jnp.sum)
        >>> norms["hidden"].ravel().tolist()
        [0.125, 0.25, 0.5]
    """

    def last_loss(nudges: Arrays) -> Array:
        def step(carry: Arrays, inputs: tuple[Array, Arrays]) -> tuple[Arrays, Array]:
            now, nudge = inputs
            output, carry = one_step(cell, weights, jax.tree.map(jnp.add, carry, nudge), now)
            return carry, output

        _, outputs = lax.scan(step, carry, (x.swapaxes(0, 1), nudges))
        return loss(outputs[-1])

    time = x.shape[1]
    still = jax.tree.map(lambda value: jnp.zeros((time, *value.shape), value.dtype), carry)
    gradients = jax.grad(last_loss)(still)
    return jax.tree.map(lambda g: jnp.linalg.norm(g, axis=-1), gradients)
