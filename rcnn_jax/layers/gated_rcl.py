"""The gated recurrent convolutional layer, as a function on arrays.

Reference:
    Wang & Hu, Gated recurrent convolution neural network for OCR, NIPS 2017.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from rcnn_jax.layers.convolution import convolve
from rcnn_jax.layers.time_scan import entry, kernels_of_steps, prepend, scan_steps

GATED_PLACES = ("feedforward", "recurrent", "product", "gate_feedforward", "gate_recurrent")
"""Where a gated RCL normalizes; all but the first are in use from t = 1 on."""


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
    """An RCL whose recurrent response is multiplied by a gate in (0, 1).

    With `f = w_f * u`, `g = w_gf * u` and a normalizer n per place of use:

        x(0) = activation(n(f))
        G(t) = sigmoid(n(g) + n(w_gr * x(t-1)))
        x(t) = activation(gamma n(f) + n(n(w_r * x(t-1)) . G(t))),   t = 1..steps

    Args:
        feedforward: f, `[batch, *spatial, features]`.
        gate_feedforward: g, `[batch, *spatial, features]`.
        recurrent_kernel: w_r, tied or untied as in `rcl`.
        gate_kernel: w_gr, tied or untied as in `rcl`.
        normalizer: maps `(place, z, entries)` to `(normalized z, report)`; the places are
            `GATED_PLACES`.
        per_step: for each place a pytree of arrays `[steps + 1, ...]` for `feedforward`, and
            `[steps, ...]` for the others, which are not used at t = 0.
        activation: the rectification and what follows it.
        steps: number of iterations T, at least 0.
        gamma: share of the normalized feed-forward input at t > 0.
        unroll: as in `rcl`.
        remat: as in `rcl`.
        all_states: as in `rcl`.

    Returns:
        States as in `rcl`, and for each place its reports, stacked as `per_step` is.

    Raises:
        ValueError: `steps` is negative.

    Reference:
        Wang & Hu, NIPS 2017, with normalization as in the released code.
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
