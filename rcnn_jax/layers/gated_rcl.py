"""The gated recurrent convolutional layer, as a function on arrays.

References:
    Wang & Hu, Gated recurrent convolution neural network for OCR, NIPS 2017.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from rcnn_jax.layers.convolution import convolve
from rcnn_jax.layers.time_scan import entry, kernels_of_steps, prepend, scan_steps

GATED_PLACES = ("feedforward", "recurrent", "product", "gate_feedforward", "gate_recurrent")
"""Terms that a gated RCL normalizes; all but the first are used from t = 1 on."""


def gated_rcl(
    feedforward: Float[Array, "batch *spatial features"],
    gate_feedforward: Float[Array, "batch *spatial features"],
    recurrent_kernel: Float[Array, "..."],
    gate_kernel: Float[Array, "..."],
    normalizer: Callable[[str, Array, Any], tuple[Array, Any]],
    per_step: Mapping[str, PyTree],
    activation: Callable[[Array], Array] = jax.nn.relu,
    *,
    steps: int,
    gamma: float = 1.0,
    unroll: bool | None = None,
    remat: bool | str = False,
    all_states: bool = False,
) -> tuple[Float[Array, "*states features"], dict[str, PyTree]]:
    """Iterates an RCL whose recurrent response is multiplied by a gate in (0, 1).

    With `f = w_f * u`, `g = w_gf * u` and a normalizer n for each term, the states are

        x(0) = activation(n(f))
        G(t) = sigmoid(n(g) + n(w_gr * x(t-1)))
        x(t) = activation(gamma n(f) + n(n(w_r * x(t-1)) . G(t))),   t = 1..steps

    Args:
        feedforward: Convolved feed-forward input f, `[batch, *spatial, features]`.
        gate_feedforward: Convolved input g of the gate, `[batch, *spatial, features]`.
        recurrent_kernel: Recurrent weights w_r, tied `[*window, features, features]` or untied with
            a leading axis `[trained steps]`.
        gate_kernel: Recurrent weights w_gr of the gate, tied `[*window, features, features]` or
            untied with a leading axis `[trained steps]`.
        normalizer: Function from `(place, z, entries)` to `(normalized z, report)`, where the place
            is one of `GATED_PLACES`.
        per_step: For each place a pytree of arrays that the normalizer receives step by step:
            `[steps + 1, ...]` for `feedforward`, and `[steps, ...]` for the other places, which are
            not used at t = 0.
        activation: Rectification and any operation that follows it.
        steps: Number of iterations T after x(0), at least 0.
        gamma: Weight of the normalized feed-forward input at t > 0.
        unroll: Whether the iterations run without a loop. None unrolls up to `LONGEST_UNROLLED` of
            them.
        remat: Rematerialization in the backward pass, False, True or "chunks"; see `scan_steps`.
        all_states: Whether to return x(0)..x(T) instead of x(T) only.

    Returns:
        A pair `(states, reports)`: the last state `[batch, *spatial, features]`, or all states with
        a leading axis `[steps + 1]`; and for each place its reports, stacked like `per_step`.

    Raises:
        ValueError: If `steps` is negative.

    References:
        Wang & Hu, NIPS 2017, with normalization as in the released code.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.gated_rcl import GATED_PLACES, gated_rcl
        >>> zero, kernel = jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1))
        >>> without = lambda place, z, entries: (z, None)
        >>> nothing = dict.fromkeys(GATED_PLACES)
        >>> states, _ = gated_rcl(
        ...     zero + 1, zero, kernel, 0 * kernel, without, nothing, steps=2, all_states=True
        ... )
        >>> states.ravel().tolist()  # The gate is sigmoid(0) = 1/2.
        [1.0, 1.5, 1.75]
    """
    rank = feedforward.ndim
    kernels = (
        kernels_of_steps(recurrent_kernel, rank, steps),
        kernels_of_steps(gate_kernel, rank, steps),
    )
    later = dict(per_step) | {"feedforward": entry(per_step["feedforward"], slice(1, None))}

    def step(x: Array, inputs: Any, in_loop: bool) -> tuple[Array, Any]:
        (kernel, gating), entries = inputs
        kernel = recurrent_kernel if kernel is None else kernel
        gating = gate_kernel if gating is None else gating
        reports = {}

        def n(place: str, z: Array) -> Array:
            z, reports[place] = normalizer(place, z, entries[place])
            return z

        gate = jax.nn.sigmoid(
            n("gate_feedforward", gate_feedforward)
            + n("gate_recurrent", convolve(x, gating, in_loop=in_loop))
        )
        recurrent = n("recurrent", convolve(x, kernel, in_loop=in_loop))
        gated = n("product", recurrent * gate)
        return activation(gamma * n("feedforward", feedforward) + gated), reports

    normal, report = normalizer("feedforward", feedforward, entry(per_step["feedforward"], 0))
    states, reports = scan_steps(
        step,
        activation(normal),
        (kernels, later),
        steps=steps,
        unroll=unroll,
        remat=remat,
        all_states=all_states,
    )
    reports = reports or {}
    return states, reports | {"feedforward": prepend(report, reports.get("feedforward"))}
