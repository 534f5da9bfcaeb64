"""The recurrent convolutional layer (RCL).

`rcl` is the mathematics, on arrays; the module `RCL` owns the parameters and spans the control
grid: iterations, gamma, tied or untied weights, gates, normalization.

Reference:
    Liang & Hu, Recurrent convolutional neural network for object recognition, CVPR 2015 (RCL);
    Liang, Hu & Zhang, NIPS 2015 (gamma); Wang & Hu, Gated recurrent convolution neural network
    for OCR, NIPS 2017 (gates).
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float, PyTree

from rcnn_jax.layers.convolution import convolve
from rcnn_jax.layers.gated_rcl import GATED_PLACES, gated_rcl
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.local_response import lrn_window, relu_lrn
from rcnn_jax.layers.masks import only_live
from rcnn_jax.layers.step_norm import Entries, StepNorm, check_norm, normalize
from rcnn_jax.layers.time_scan import entry, kernels_of_steps, prepend, scan_steps

# (pre-activation, entries of its step) -> (activation or normalized value, what to report)
Activation = Callable[[Array, Any], tuple[Array, Any]]


def _rectify(z: Array, entries: None) -> tuple[Array, None]:
    del entries
    return jax.nn.relu(z), None


def rcl(
    feedforward: Float[Array, "batch *spatial features"],
    recurrent_kernel: Float[Array, "..."] | None,
    activation: Activation = _rectify,
    per_step: PyTree = None,
    *,
    steps: int,
    gamma: float = 1.0,
    unroll: bool | None = None,
    remat: bool | str = False,
    all_states: bool = False,
) -> tuple[Float[Array, "*states features"], PyTree]:
    """Iterates a recurrent convolution under a constant feed-forward input.

    With `f = w_f * u` (the argument `feedforward`, convolved once by the caller):

        x(0) = activation(f, per_step[0])
        x(t) = activation(gamma f + w_r(t) * x(t-1), per_step[t]),   t = 1..steps

    Args:
        feedforward: `[batch, *spatial, features]`, without bias.
        recurrent_kernel: tied weights `[*window, features, features]`, or untied ones
            `[trained steps, *window, features, features]`, of which a step beyond the last takes
            the last. May be None where `steps` is 0.
        activation: maps `(z, entries)` to `(x, report)`; bias, normalization and rectification
            are its business. The default is a plain rectification.
        per_step: pytree of arrays `[steps + 1, ...]`, entry t goes to step t; None for none.
        steps: number of iterations T, at least 0.
        gamma: share of the feed-forward input at t > 0: 1 is the RCL, 0 a recursive layer.
        unroll: run without a loop; None does so up to `LONGEST_UNROLLED` steps.
        remat: what the backward pass computes again, see `scan_steps`.
        all_states: return x(0)..x(T) instead of x(T).

    Returns:
        The last state `[batch, *spatial, features]`, or all of them with a leading axis
        `[steps + 1]`; and the reports, each leaf stacked to `[steps + 1, ...]`.

    Raises:
        ValueError: `steps` is negative, or positive without a recurrent kernel.

    Reference:
        Liang & Hu, CVPR 2015, equations 1-3; gamma: Liang, Hu & Zhang, NIPS 2015.
    """
    kernels = kernels_of_steps(recurrent_kernel, feedforward.ndim, steps)
    tied_kernel: Any = recurrent_kernel
    drive = gamma * feedforward

    def step(x: Array, inputs: Any, in_loop: bool) -> tuple[Array, Any]:
        own_kernel, entries = inputs
        z = convolve(x, tied_kernel if own_kernel is None else own_kernel, in_loop=in_loop)
        return activation(z if gamma == 0 else drive + z, entries)

    first, report = activation(feedforward, entry(per_step, 0))
    states, reports = scan_steps(
        step,
        first,
        (kernels, entry(per_step, slice(1, None))),
        steps=steps,
        unroll=unroll,
        remat=remat,
        all_states=all_states,
    )
    return states, prepend(report, reports)


class RCLOptions(nn.Module, kw_only=True):
    """What a recurrent convolutional layer can be told besides its size, declared once.

    `RCL` has these attributes, and so have models made of such layers, which hand them on by
    `rcl_options`. A model that has another default declares the attribute again.

    Attributes:
        gamma: Share of the feed-forward input at t > 0: 1 is the RCL, 0 a recursive layer.
        tie_weights: One recurrent kernel for all steps; otherwise one for each.
        norm: `lrn`; `batch` (affine and statistics per step), `batch_split` (statistics per step,
            one affine), `batch_shared` (one of both); `layer`, `group`; or `none`.
        groups: Number of groups of `group`.
        momentum: Share of the running statistics kept at an update.
        epsilon: Added to variances.
        lrn_size: Channels in an LRN window; None: `features / 8 + 1`.
        lrn_alpha: Strength of LRN.
        lrn_beta: Exponent of LRN.
        kernel_init: Of the feed-forward kernels, see `kernel_initializer`.
        recurrent_init: Of the recurrent kernels.
        unroll: Run without a loop; None does so up to a few steps, see `rcl`.
        remat: What the backward pass computes again, see `rcl`.
        dtype: Dtype of the computation, for example `bfloat16`; None: that of input and parameters.
        param_dtype: Dtype of parameters and running statistics.
    """

    gamma: float = 1.0
    tie_weights: bool = True
    norm: str = "lrn"
    groups: int = 8
    momentum: float = 0.9
    epsilon: float = 1e-5
    lrn_size: int | None = None
    lrn_alpha: float = 1e-3
    lrn_beta: float = 0.75
    kernel_init: str | float = "lecun"
    recurrent_init: str | float = "lecun"
    unroll: bool | None = None
    remat: bool | str = False
    dtype: str | None = None
    param_dtype: str = "float32"

    def rcl_options(self, **changes: Any) -> dict[str, Any]:
        """The options as keyword arguments of an `RCL`.

        Args:
            **changes: Other values for some of them.
        """
        return {name: getattr(self, name) for name in _OPTIONS} | changes


# Linen adds two fields of its own to every module.
_OPTIONS = tuple(RCLOptions.__annotations__.keys() - {"parent", "name"})


class RCL(RCLOptions):
    """Recurrent convolutional layer: `x(t) = norm(relu(w_f * u + w_r * x(t-1) + b))`.

    Parameters: `kernel` `[*kernel_size, channels, features]`; `recurrent_kernel`
    `[*recurrent_kernel_size, features, features]` (untied: with a leading axis `[steps]`; absent
    for `steps = 0`, which is a plain convolutional layer); and the bias or affine of the
    normalization, see `StepNorm`. With `norm="lrn"`, 3x3 kernels and K channels in and out these
    are 18 K^2 + K numbers. LRN follows the rectification, all other norms precede it, and their
    affine replaces the bias.

    The number of iterations may differ from the trained T at call time. There is one rule for
    what is kept per step: a step t > T uses the batch statistics, affine and untied kernel of
    step T. In training, statistics used beyond T are not recorded.

    Attributes:
        features: number of feature maps K.
        kernel_size: window of the feed-forward kernel; its length is the number of spatial axes.
        recurrent_kernel_size: window of the recurrent kernel; None: `kernel_size`.
        steps: trained number of iterations T.
        gated: the gated layer, see `gated_rcl`; its gate kernels are 1x1.

    The other attributes are `RCLOptions`.
    """

    features: int
    kernel_size: Sequence[int] = (3, 3)
    recurrent_kernel_size: Sequence[int] | None = None
    steps: int = 3
    gated: bool = False

    @nn.compact
    def __call__(
        self,
        u: Array,
        *,
        train: bool = False,
        steps: int | None = None,
        all_states: bool = False,
        live: Array | None = None,
    ) -> Array:
        """Runs the layer.

        Args:
            u: input `[batch, *spatial, channels]`.
            train: use and record the statistics of the batch (batch norms only).
            steps: number of iterations of this call; None: the trained T.
            all_states: return the states of t = 0..steps.
            live: which positions of `u` are no padding, bool `[batch, *spatial]`, 1 in place of
                a size where they are the same. What is padding has no effect on the rest, in
                values, gradients and statistics, and every state is 0 there. None: all.

        Returns:
            The last state `[batch, *spatial, features]`, or `[steps + 1, batch, *spatial,
            features]`.

        Raises:
            ValueError: an attribute, the rank of `u` or `steps` is impossible, or `live` does not
                fit.
        """
        self._check(u)
        # A state is read by the convolution of the next step, so each is 0 beyond, as `u` is.
        u = only_live(u, live)
        steps = self.steps if steps is None or self.is_initializing() else steps
        u, parameters = self._parameters(u)
        options = {
            "steps": steps,
            "gamma": self.gamma,
            "unroll": self.unroll,
            "remat": self.remat,
            "all_states": all_states,
        }
        if self.gated and self.steps:
            return self._gated(u, parameters, train, live, options)
        norm = self._step_norm("norm", self.steps + 1)

        def activation(z: Array, entries: Entries) -> tuple[Array, Entries]:
            z, used = self._normalize(z, entries, train, live)
            return only_live(self._activate(z), live), used

        states, used = rcl(
            convolve(u, parameters["kernel"]),
            parameters.get("recurrent_kernel"),
            activation,
            norm.entries(steps + 1),
            **options,
        )
        norm.record(used, live)
        return states

    def _gated(
        self,
        u: Array,
        parameters: dict[str, Array],
        train: bool,
        live: Array | None,
        options: dict[str, Any],
    ) -> Array:
        # Without an affine normalization one bias a sum is enough: the others would add up.
        places = ["feedforward", "gate_feedforward"]
        if self.norm not in ("lrn", "none"):
            places += ["recurrent", "product", "gate_recurrent"]
        norms = {
            place: self._step_norm(f"norm_{place}", self.steps + (place == "feedforward"))
            for place in places
        }

        def normalizer(place: str, z: Array, entries: Entries | None) -> tuple[Array, Entries]:
            return (z, {}) if entries is None else self._normalize(z, entries, train, live)

        steps = options["steps"]
        per_step = dict.fromkeys(GATED_PLACES) | {
            place: norm.entries(steps + (place == "feedforward")) for place, norm in norms.items()
        }
        states, used = gated_rcl(
            convolve(u, parameters["kernel"]),
            convolve(u, parameters["gate_kernel"]),
            parameters["recurrent_kernel"],
            parameters["recurrent_gate_kernel"],
            normalizer,
            per_step,
            lambda z: only_live(self._activate(z), live),
            **options,
        )
        for place, norm in norms.items():
            norm.record(used.get(place, {}), live)
        return states

    def _parameters(self, u: Array) -> tuple[Array, dict[str, Array]]:
        """The kernels by name, and the input, all in the dtype of the computation."""
        window = tuple(self.kernel_size)
        recurrent_window = tuple(self.recurrent_kernel_size or window)
        one = (1,) * len(window)
        forward = kernel_initializer(self.kernel_init)
        recurrent = kernel_initializer(self.recurrent_init)
        square = (self.features, self.features)
        declared: dict[str, tuple[Any, tuple[int, ...]]] = {}
        declared["kernel"] = (forward, (*window, u.shape[-1], self.features))
        if self.steps:
            declared["recurrent_kernel"] = (recurrent, (*recurrent_window, *square))
        if self.steps and self.gated:
            declared["gate_kernel"] = (forward, (*one, u.shape[-1], self.features))
            declared["recurrent_gate_kernel"] = (recurrent, (*one, *square))
        kernels = {}
        for name, (initializer, shape) in declared.items():
            if name.startswith("recurrent") and not self.tie_weights:
                initializer, shape = _each_step(initializer), (self.steps, *shape)
            kernels[name] = self.param(name, initializer, shape, jnp.dtype(self.param_dtype))
        u, *values = promote_dtype(u, *kernels.values(), dtype=self.dtype)
        return u, dict(zip(kernels, values, strict=True))

    def _step_norm(self, name: str, calls: int) -> StepNorm:
        return StepNorm(self.norm, self.features, calls, self.momentum, self.param_dtype, name=name)

    def _normalize(
        self, z: Array, entries: Entries, train: bool, live: Array | None
    ) -> tuple[Array, Entries]:
        return normalize(
            z, entries, kind=self.norm, train=train, groups=self.groups, epsilon=self.epsilon,
            live=live,
        )  # fmt: skip

    def _activate(self, z: Array) -> Array:
        if self.norm != "lrn":
            return jax.nn.relu(z)
        size = lrn_window(self.features) if self.lrn_size is None else self.lrn_size
        return relu_lrn(z, size=size, alpha=self.lrn_alpha, beta=self.lrn_beta)

    def _check(self, u: Array) -> None:
        check_norm(self.norm)
        if self.steps < 0:
            raise ValueError(f"an RCL iterates steps >= 0 times, got steps={self.steps}")
        if self.features < 1:
            raise ValueError(f"an RCL has at least 1 feature map, got features={self.features}")
        for name in ("kernel_size", "recurrent_kernel_size"):
            window = getattr(self, name)
            if window is not None and (not window or min(window) < 1):
                raise ValueError(f"{name} must be at least 1 along each axis, got {tuple(window)}")
        if self.lrn_size is not None and self.lrn_size < 1:
            raise ValueError(f"lrn_size must be at least 1 channel, got {self.lrn_size}")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {self.momentum}")
        for name in ("epsilon", "lrn_alpha", "lrn_beta"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if u.ndim != len(self.kernel_size) + 2:
            raise ValueError(
                f"an RCL with kernel_size {tuple(self.kernel_size)} takes an input [batch, "
                f"{len(self.kernel_size)} spatial axes, channels], got shape {u.shape}"
            )
        recurrent = self.recurrent_kernel_size
        if recurrent is not None and len(recurrent) != len(self.kernel_size):
            raise ValueError(
                f"recurrent_kernel_size {tuple(recurrent)} must have as many axes as kernel_size "
                f"{tuple(self.kernel_size)}"
            )


def _each_step(initializer: Callable[..., Array]) -> Callable[..., Array]:
    """Draws a leading axis of independent kernels: fan-in is that of one of them."""

    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return jax.vmap(lambda k: initializer(k, shape[1:], dtype))(jax.random.split(key, shape[0]))

    return draw


def extend_steps(variables: PyTree, longer: PyTree) -> PyTree:
    """Variables of a net trained for T steps, for the same net made with more steps.

    Leaves kept per step get further entries equal to their last one, which is what a call with
    more steps does by rule. Running the longer net over training images with `train=True` then
    gives the new steps statistics of their own.

    Args:
        variables: variables of the trained net.
        longer: variables, or their shapes (`jax.eval_shape` of `init`), of the longer net.

    Raises:
        ValueError: a leaf differs in more than a longer leading axis.
    """

    def extend(leaf: Array, target: Array | jax.ShapeDtypeStruct) -> Array:
        if leaf.ndim != target.ndim or leaf.shape[1:] != target.shape[1:]:
            raise ValueError(
                f"cannot extend an array of shape {leaf.shape} over time to {target.shape}"
            )
        if leaf.shape == target.shape:
            return leaf
        index = jnp.minimum(jnp.arange(target.shape[0]), leaf.shape[0] - 1)
        return jnp.asarray(leaf)[index]

    return jax.tree.map(extend, variables, longer)
