"""The iterations of a recurrent convolutional layer with windows of 3 x 3, compiled.

One step of the layer is one call: it normalizes and rectifies the images of the state before, while
they are in the cache of a core, convolves them, adds the feed-forward input, and sums up what batch
normalization needs. The pre-activations z(t) alone are kept for the backward pass; the states are
computed again from them, except after local response normalization, where they are kept, too.

    z(0) = f,   x(t) = activation(z(t)),   z(t) = gamma f + w(t) * x(t - 1)

References:
    Liang & Hu, CVPR 2015, equations 1-4; Ioffe & Szegedy, ICML 2015.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rcnn_jax.kernels.convolution import KERNEL_GRADIENT, flipped, kernel_gradient, transform
from rcnn_jax.kernels.library import ROWS, SCRATCH, WHOLE, Call, Result
from rcnn_jax.kernels.response import Response, respond, respond_gradient

Total = Callable[[Array], Array]
"""Sums over the devices of the data axis, or returns what it gets where there is none."""


def _moments_of(z: Array, *_: Array) -> tuple[int, ...]:
    return (z.shape[0], 2, z.shape[3])


_MOMENTS = Call("RcnnMoments", (ROWS,), (Result(_moments_of),))
_GRADIENT_SUMS = Call("RcnnGradientSums", (ROWS, ROWS, WHOLE), (Result(_moments_of),))
_STEP = Call(
    "RcnnStepNormal",
    (ROWS, WHOLE, ROWS, WHOLE),
    (
        Result(lambda z, norm, drive, packed: drive.shape),
        Result(lambda z, norm, drive, packed: _moments_of(drive)),
    ),
)
_STEP_WITHOUT_MOMENTS = Call(
    "RcnnStepNormal",
    (ROWS, WHOLE, ROWS, WHOLE),
    (
        Result(lambda z, norm, drive, packed: drive.shape),
        Result(lambda z, norm, drive, packed: (z.shape[0], 0, drive.shape[3]), SCRATCH),
    ),
)
_BACK = Call(
    "RcnnBackNormal",
    (ROWS, ROWS, WHOLE, WHOLE, ROWS, WHOLE),
    (
        Result(lambda g, z, norm, packed, before, norm_before: g.shape),
        Result(lambda g, z, norm, packed, before, norm_before: before.shape),
        Result(lambda g, z, norm, packed, before, norm_before: _moments_of(before)),
    ),
)
_KERNEL_GRADIENT = Call("RcnnKernelGradientNormal", (ROWS, WHOLE, ROWS), KERNEL_GRADIENT)
_STEP_RESPONSE = Call(
    "RcnnStepResponse",
    (ROWS, WHOLE, ROWS, WHOLE),
    (
        Result(lambda z, bias, drive, packed: z.shape),
        Result(lambda z, bias, drive, packed: drive.shape),
    ),
)
_BACK_RESPONSE = Call(
    "RcnnBackResponse",
    (ROWS, ROWS, WHOLE, WHOLE),
    (
        Result(lambda g, z, bias, packed: g.shape),
        Result(lambda g, z, bias, packed: (*g.shape[:3], 16 * packed.shape[1])),
    ),
)


class Norms(NamedTuple):
    """Batch normalization of every step: `relu((z - mean) factor + bias)`.

    Attributes:
        mean: Mean of each channel, `[steps + 1, channels]`.
        factor: Scale divided by the standard deviation, `[steps + 1, channels]`.
        bias: Offset of each channel, `[steps + 1, channels]`.
    """

    mean: Array
    factor: Array
    bias: Array

    def of(self, step: int) -> Array:
        """Returns the rows mean, factor and bias of one step, `[3, channels]`."""
        return jnp.stack([self.mean[step], self.factor[step], self.bias[step]])


def _kernel_of(kernels: Array, step: int) -> Array:
    """Returns the kernel of step 1.. of tied weights with 4 axes, or of untied ones with 5."""
    return kernels if kernels.ndim == 4 else kernels[step - 1]


def _packed_of(kernels: Array, *, back: bool = False) -> Callable[[int], Array]:
    """Returns a function from a step to its transformed kernel; tied weights have one for all."""

    @functools.cache
    def of(number: int) -> Array:
        kernel = _kernel_of(kernels, number)
        return transform(flipped(kernel) if back else kernel)

    return (lambda step: of(1)) if kernels.ndim == 4 else of


def _activated(z: Array, norm: Array) -> Array:
    mean, factor, bias = (row[None, None, None] for row in norm)
    return jax.nn.relu((z - mean) * factor + bias)


def _states(values: list[Array], norms: Norms, all_states: bool) -> Array:
    """Returns the last state, or all of them, from the pre-activations."""
    last = len(values) - 1
    if not all_states:
        return _activated(values[last], norms.of(last))
    return jnp.stack([_activated(z, norms.of(step)) for step, z in enumerate(values)])


def _of_kernels(kernels: Array, gradients: list[Array]) -> Array:
    """Returns the gradient of tied or untied kernels from those of steps T..1."""
    each = jnp.stack(gradients[::-1])
    return each.sum(0) if kernels.ndim == 4 else each


class _Backward(NamedTuple):
    """What going back through all steps returns.

    Attributes:
        feedforward: Gradient of f.
        kernels: Gradient of the kernels.
        sums: For each step the sums over images and pixels of g and of g (z - mean) where the
            state is positive, `[steps + 1, 2, channels]`, over this device.
    """

    feedforward: Array
    kernels: Array
    sums: Array


def _back(
    states_gradient: Array,
    values: list[Array],
    kernels: Array,
    norms: Norms,
    rows_of: Callable[[int, Array], Array],
    *,
    gamma: float,
    all_states: bool,
) -> _Backward:
    """Goes back through all steps.

    Args:
        states_gradient: Gradient of the last state, or of all states.
        values: Pre-activations of all steps.
        kernels: Tied or untied kernels.
        norms: Normalization of each step.
        rows_of: Function from a step and its sums `[2, channels]` to the rows scale, slope and
            shift, `[3, channels]`, of the gradient `scale g [x > 0] + slope (z - mean) + shift`.
        gamma: Weight of f after the first step.
        all_states: Whether `states_gradient` has the gradient of all states.
    """
    steps = len(values) - 1
    packed = _packed_of(kernels, back=True)
    gradient = states_gradient[steps] if all_states else states_gradient
    found = _GRADIENT_SUMS(gradient, values[steps], norms.of(steps))[0]
    drive_gradient: Any = 0.0
    kernel_gradients, sums = [], []
    for step in range(steps, 0, -1):
        summed = found.sum(0)
        sums.append(summed)
        norm, before = norms.of(step), norms.of(step - 1)
        rows = jnp.concatenate([norm, rows_of(step, summed)])
        at_z, gradient, found = _BACK(
            gradient, values[step], rows, packed(step), values[step - 1], before
        )
        if all_states:
            gradient = gradient + states_gradient[step - 1]
            found = _GRADIENT_SUMS(gradient, values[step - 1], before)[0]
        kernel_gradients.append(_KERNEL_GRADIENT(values[step - 1], before, at_z)[0])
        drive_gradient = drive_gradient + at_z
    summed = found.sum(0)
    sums.append(summed)
    mean, factor, bias = (row[None, None, None] for row in norms.of(0))
    scale, slope, shift = (row[None, None, None] for row in rows_of(0, summed))
    centred = values[0] - mean
    through = jnp.where(centred * factor + bias > 0, gradient, 0.0)
    at_first = scale * through + (slope * centred + shift)
    return _Backward(
        at_first + gamma * drive_gradient,
        _of_kernels(kernels, kernel_gradients),
        jnp.stack(sums[::-1]),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def rcl_frozen(
    steps: int,
    gamma: float,
    all_states: bool,
    feedforward: Float[Array, "batch height width features"],
    kernels: Float[Array, "..."],
    norms: Norms,
) -> Float[Array, "*states features"]:
    """Iterates a recurrent convolution whose batch normalization has given statistics.

    Args:
        steps: Number of iterations T, at least 1.
        gamma: Weight of the feed-forward input after the first step.
        all_states: Whether to return x(0)..x(T) instead of x(T) only.
        feedforward: Convolved feed-forward input f, `float32[batch, height, width, features]`.
        kernels: Recurrent kernel `[3, 3, features, features]`, or one for each step with a leading
            axis `[steps]`.
        norms: Normalization of each step.

    Returns:
        The last state, or all states with a leading axis `[steps + 1]`. Only reverse-mode
        differentiation is defined.
    """
    return _frozen_forward(steps, gamma, all_states, feedforward, kernels, norms)[0]


def _frozen_forward(
    steps: int, gamma: float, all_states: bool, feedforward: Array, kernels: Array, norms: Norms
) -> tuple[Array, Any]:
    packed = _packed_of(kernels)
    values, drive = [feedforward], gamma * feedforward
    for step in range(1, steps + 1):
        before = norms.of(step - 1)
        values += _STEP_WITHOUT_MOMENTS(values[-1], before, drive, packed(step))
    return _states(values, norms, all_states), (values, kernels, norms)


def _frozen_backward(
    steps: int, gamma: float, all_states: bool, residuals: Any, gradient: Array
) -> tuple[Array, Array, Norms]:
    values, kernels, norms = residuals

    def rows_of(step: int, sums: Array) -> Array:
        zero = jnp.zeros_like(norms.factor[step])
        return jnp.stack([norms.factor[step], zero, zero])

    back = _back(gradient, values, kernels, norms, rows_of, gamma=gamma, all_states=all_states)
    through, centred = back.sums[:, 0], back.sums[:, 1]
    return back.feedforward, back.kernels, Norms(-norms.factor * through, centred, through)


rcl_frozen.defvjp(_frozen_forward, _frozen_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3, 4))
def rcl_batch(
    steps: int,
    gamma: float,
    all_states: bool,
    epsilon: float,
    total: Total,
    feedforward: Float[Array, "batch height width features"],
    kernels: Float[Array, "..."],
    scale: Float[Array, "calls features"],
    bias: Float[Array, "calls features"],
) -> tuple[Float[Array, "*states features"], Float[Array, "calls features"], Array]:
    """Iterates a recurrent convolution with the batch normalization of training.

    Args:
        steps: Number of iterations T, at least 1.
        gamma: Weight of the feed-forward input after the first step.
        all_states: Whether to return x(0)..x(T) instead of x(T) only.
        epsilon: Constant added to variances.
        total: Function that sums an array over the devices of the data axis.
        feedforward: Convolved feed-forward input f, `float32[batch, height, width, features]`.
        kernels: Recurrent kernel `[3, 3, features, features]`, or one for each step with a leading
            axis `[steps]`.
        scale: Factor of each step and channel, `[steps + 1, features]`.
        bias: Offset of each step and channel, `[steps + 1, features]`.

    Returns:
        The last state, or all states with a leading axis `[steps + 1]`; and mean and biased
        variance over the global batch that each step used, `[steps + 1, features]`. No gradient
        flows through the latter two. Only reverse-mode differentiation is defined.
    """
    arguments = (steps, gamma, all_states, epsilon, total, feedforward, kernels, scale, bias)
    return _batch_forward(*arguments)[0]


def _batch_forward(
    steps: int,
    gamma: float,
    all_states: bool,
    epsilon: float,
    total: Total,
    feedforward: Array,
    kernels: Array,
    scale: Array,
    bias: Array,
) -> tuple[tuple[Array, Array, Array], Any]:
    packed = _packed_of(kernels)
    values, drive = [feedforward], gamma * feedforward
    pixels = feedforward.shape[1] * feedforward.shape[2]
    images = total(jnp.float32(feedforward.shape[0]))
    means, variances, norms = [], [], []
    found = _MOMENTS(feedforward)[0]
    for step in range(steps + 1):
        # The moments of all images from those of each, as Chan, Golub & LeVeque have it.
        mean = total(found[:, 0].sum(0)) / images
        between = jnp.square(found[:, 0] - mean[None]).sum(0)
        variance = total(found[:, 1].sum(0) / pixels + between) / images
        means.append(mean)
        variances.append(variance)
        norms.append(jnp.stack([mean, scale[step] * lax.rsqrt(variance + epsilon), bias[step]]))
        if step < steps:
            z, found = _STEP(values[-1], norms[-1], drive, packed(step + 1))
            values.append(z)
    mean, variance, used = jnp.stack(means), jnp.stack(variances), Norms(*jnp.stack(norms, 1))
    results = (_states(values, used, all_states), mean, variance)
    return results, (values, kernels, used, variance, images)


def _batch_backward(
    steps: int,
    gamma: float,
    all_states: bool,
    epsilon: float,
    total: Total,
    residuals: Any,
    gradients: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array, Array]:
    values, kernels, norms, variance, images = residuals
    inverse = lax.rsqrt(variance + epsilon)
    pixels = values[0].shape[1] * values[0].shape[2]

    def rows_of(step: int, sums: Array) -> Array:
        shift, slope = total(sums) / (images * pixels)
        factor = norms.factor[step]
        return jnp.stack([factor, -factor * jnp.square(inverse[step]) * slope, -factor * shift])

    back = _back(gradients[0], values, kernels, norms, rows_of, gamma=gamma, all_states=all_states)
    through, centred = back.sums[:, 0], back.sums[:, 1]
    return back.feedforward, back.kernels, centred * inverse, through


rcl_batch.defvjp(_batch_forward, _batch_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def rcl_response(
    steps: int,
    gamma: float,
    all_states: bool,
    response: Response,
    feedforward: Float[Array, "batch height width features"],
    kernels: Float[Array, "..."],
    bias: Float[Array, "calls features"],
) -> Float[Array, "*states features"]:
    """Iterates a recurrent convolution with local response normalization.

    Args:
        steps: Number of iterations T, at least 1.
        gamma: Weight of the feed-forward input after the first step.
        all_states: Whether to return x(0)..x(T) instead of x(T) only.
        response: Local response normalization of the rectified sum.
        feedforward: Convolved feed-forward input f, `float32[batch, height, width, features]`.
        kernels: Recurrent kernel `[3, 3, features, features]`, or one for each step with a leading
            axis `[steps]`.
        bias: Bias of each step, `[steps + 1, features]`.

    Returns:
        The last state, or all states with a leading axis `[steps + 1]`. Only reverse-mode
        differentiation is defined.
    """
    return _response_forward(steps, gamma, all_states, response, feedforward, kernels, bias)[0]


def _response_forward(
    steps: int,
    gamma: float,
    all_states: bool,
    response: Response,
    feedforward: Array,
    kernels: Array,
    bias: Array,
) -> tuple[Array, Any]:
    packed = _packed_of(kernels)
    values, states, drive = [feedforward], [], gamma * feedforward
    for step in range(1, steps + 1):
        state, z = _STEP_RESPONSE(
            values[-1], bias[step - 1], drive, packed(step), **response.attributes()
        )
        states.append(state)
        values.append(z)
    last = respond(response, values[-1], bias[steps])
    shown = jnp.stack([*states, last]) if all_states else last
    return shown, (values, states, kernels, bias)


def _response_backward(
    steps: int,
    gamma: float,
    all_states: bool,
    response: Response,
    residuals: Any,
    states_gradient: Array,
) -> tuple[Array, Array, Array]:
    values, states, kernels, bias = residuals
    packed = _packed_of(kernels, back=True)
    gradient = states_gradient[steps] if all_states else states_gradient
    kernel_gradients, inner = [], []
    for step in range(steps, 0, -1):
        at_z, gradient = _BACK_RESPONSE(
            gradient, values[step], bias[step], packed(step), **response.attributes()
        )
        if all_states:
            gradient = gradient + states_gradient[step - 1]
        kernel_gradients.append(kernel_gradient(states[step - 1], at_z))
        inner.append(at_z)
    at_first = respond_gradient(response, gradient, values[0], bias[0])
    per_step = [at_first, *inner[::-1]]
    return (
        at_first + gamma * functools.reduce(jnp.add, inner),
        _of_kernels(kernels, kernel_gradients),
        jnp.stack([at_z.sum((0, 1, 2)) for at_z in per_step]),
    )


rcl_response.defvjp(_response_forward, _response_backward)
