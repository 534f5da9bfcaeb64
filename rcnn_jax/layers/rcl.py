"""The recurrent convolutional layer (RCL).

The function `rcl` is the mathematics of the layer on arrays. The module `RCL` holds the parameters
and spans the control grid of experiments: number of iterations, gamma, tied or untied weights,
gates and normalization.

References:
    Liang & Hu, Recurrent convolutional neural network for object recognition, CVPR 2015 (RCL);
    Liang, Hu & Zhang, NIPS 2015 (gamma);
    Wang & Hu, Gated recurrent convolution neural network for OCR, NIPS 2017 (gates).
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from rcnn_jax.kernels import choice, forms
from rcnn_jax.kernels import rcl as compiled
from rcnn_jax.kernels.library import aligned
from rcnn_jax.layers.convolution import convolutions_are_direct, convolve
from rcnn_jax.layers.gated_rcl import GATED_PLACES, gated_rcl
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.local_response import lrn_window, relu_lrn
from rcnn_jax.layers.masks import apply_mask
from rcnn_jax.layers.normalization import rows_masked, total_over_data
from rcnn_jax.layers.step_norm import Entries, StepNorm, check_norm, normalize
from rcnn_jax.layers.time_scan import entry, kernels_of_steps, prepend, scan_steps

# Maps (pre-activation, entries of its step) to (activation or normalized value, report).
Activation = Callable[[Array, Any], tuple[Array, Any]]


def _rectify(z: Array, entries: None) -> tuple[Array, None]:
    """Rectifies `z` without normalization, the default activation of `rcl`."""
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

    With `f = w_f * u`, which the caller convolves once and passes as `feedforward`, the states are

        x(0) = activation(f, per_step[0])
        x(t) = activation(gamma f + w_r(t) * x(t-1), per_step[t]),   t = 1..steps

    Args:
        feedforward: Convolved feed-forward input f without bias, `[batch, *spatial, features]`.
        recurrent_kernel: Recurrent weights w_r. Tied weights have shape `[*window, features,
            features]`; untied weights have a leading axis `[trained steps]`, and every step beyond
            the last trained one uses the last kernel. None is allowed if `steps` is 0.
        activation: Function from `(z, entries)` to `(x, report)` that applies bias, normalization
            and rectification to a pre-activation z. By default it only rectifies.
        per_step: Pytree of arrays `[steps + 1, ...]` whose entry t is passed to the activation of
            step t. None passes None to every step.
        steps: Number of iterations T after x(0), at least 0.
        gamma: Weight of the feed-forward input at t > 0: 1 gives the RCL, 0 a recursive layer.
        unroll: Whether the iterations run without a loop. None unrolls up to `LONGEST_UNROLLED` of
            them.
        remat: Rematerialization in the backward pass: False stores all intermediate values, True
            recomputes the inside of each iteration, and "chunks" recomputes runs of about sqrt(T)
            iterations; see `scan_steps`.
        all_states: Whether to return x(0)..x(T) instead of x(T) only.

    Returns:
        A pair `(states, reports)`: the last state `[batch, *spatial, features]`, or all states with
        a leading axis `[steps + 1]`; and the reports of the activation, each leaf stacked to
        `[steps + 1, ...]`.

    Raises:
        ValueError: If `steps` is negative, or positive without a recurrent kernel.

    References:
        Liang & Hu, CVPR 2015, equations 1-3; gamma: Liang, Hu & Zhang, NIPS 2015.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.rcl import rcl
        >>> kernel = jnp.full((1, 1, 1), 0.5)
        >>> states, _ = rcl(jnp.ones((1, 1, 1)), kernel, steps=3, all_states=True)
        >>> states.ravel().tolist()
        [1.0, 1.5, 1.75, 1.875]
    """
    kernels = kernels_of_steps(recurrent_kernel, feedforward.ndim, steps)
    tied_kernel: Any = recurrent_kernel
    drive = gamma * feedforward

    def step(x: Array, inputs: Any, in_loop: bool) -> tuple[Array, Any]:
        untied_kernel, entries = inputs
        z = convolve(x, tied_kernel if untied_kernel is None else untied_kernel, in_loop=in_loop)
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
    """Options that all recurrent convolutional layers share, besides their size.

    `RCL` has these attributes, and so have models that are made of RCLs, which pass them on by
    `rcl_options`. A model with another default value declares the attribute again.

    Attributes:
        gamma: Weight of the feed-forward input at t > 0: 1 gives the RCL, 0 a recursive layer.
        tie_weights: Whether all iterations share one recurrent kernel; otherwise each iteration has
            a separate one.
        norm: Kind of normalization: `lrn` (local response normalization); `batch` (batch
            normalization with statistics and affine parameters per step), `batch_split` (statistics
            per step, shared affine parameters), `batch_shared` (shared statistics and affine
            parameters); `layer`; `group`; or `none`.
        groups: Number of groups of channels of `group` normalization.
        momentum: Fraction of the running statistics that an update keeps, in [0, 1].
        epsilon: Constant added to variances, at least 0.
        lrn_size: Number of channels in the LRN window. None takes `features / 8 + 1`.
        lrn_alpha: Strength alpha of LRN, at least 0.
        lrn_beta: Exponent beta of LRN, at least 0.
        kernel_init: Initializer of the feed-forward kernels, a name or the bound of a uniform
            distribution; see `kernel_initializer`.
        recurrent_init: Initializer of the recurrent kernels, a name or the bound of a uniform
            distribution; see `kernel_initializer`.
        unroll: Whether the iterations run without a loop. None unrolls up to `LONGEST_UNROLLED` of
            them.
        remat: Rematerialization in the backward pass, False, True or "chunks"; see `scan_steps`.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the promoted dtype of input
            and parameters.
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
        """Returns the options as keyword arguments of an `RCL`.

        Args:
            **changes: Options whose values differ from the attributes, by name.

        Returns:
            A dict from the names of all options to their values.
        """
        return {name: getattr(self, name) for name in _OPTIONS} | changes


# Linen adds the fields `parent` and `name` to every module.
_OPTIONS = tuple(RCLOptions.__annotations__.keys() - {"parent", "name"})


class RCL(RCLOptions):
    """Recurrent convolutional layer: `x(t) = norm(relu(w_f * u + w_r * x(t-1) + b))`.

    The parameters are `kernel` `[*kernel_size, channels, features]`; `recurrent_kernel`
    `[*recurrent_kernel_size, features, features]`, with a leading axis `[steps]` if the weights are
    untied, and absent for `steps = 0`, which is a plain convolutional layer; and the bias or affine
    parameters of the normalization, see `StepNorm`. With `norm="lrn"`, 3x3 kernels and K channels
    in and out these are 18 K^2 + K numbers. LRN follows the rectification. All other normalizations
    precede it, and their affine parameters replace the bias.

    A call may run another number of iterations than the trained T. One rule holds for everything
    that is kept per step: a step t > T uses the batch statistics, affine parameters and untied
    kernel of step T. In training, statistics of steps beyond T are not recorded.

    Attributes:
        features: Number of feature maps K.
        kernel_size: Window of the feed-forward kernel, one size for each spatial axis of the input.
        recurrent_kernel_size: Window of the recurrent kernel, one size for each spatial axis. None
            takes `kernel_size`.
        steps: Trained number of iterations T, at least 0.
        gated: Whether the recurrent response is gated, see `gated_rcl`; the gate kernels are 1x1.

    The other attributes are those of `RCLOptions`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.rcl import RCL
        >>> layer = RCL(features=8, kernel_size=(3,), steps=2)
        >>> u = jnp.ones((2, 6, 4))
        >>> state, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), u)
        >>> state.shape, variables["params"]["recurrent_kernel"].shape
        ((2, 6, 8), (3, 8, 8))
        >>> longer = lambda variables: layer.apply(variables, u, steps=5, all_states=True)
        >>> jax.eval_shape(longer, variables).shape
        (6, 2, 6, 8)
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
        mask: Array | None = None,
    ) -> Array:
        """Computes the states of the layer.

        Args:
            u: Input `[batch, *spatial, channels]`.
            train: Whether batch normalization uses and records the statistics of the batch instead
                of the running ones.
            steps: Number of iterations of this call, at least 0. None takes the trained T.
            all_states: Whether to return the states of t = 0..steps instead of the last one only.
            mask: Mask `bool[batch, *spatial]` that is false at padding; a spatial axis may have
                size 1 if the mask is constant along it. Padding has no effect on other positions,
                in values, gradients and statistics, and every state is 0 there. None means that
                there is no padding.

        Returns:
            The last state `[batch, *spatial, features]`, or all states `[steps + 1, batch,
            *spatial, features]`.

        Raises:
            ValueError: If an attribute, the rank of `u` or `steps` is invalid, or if `mask` does
                not fit `u`.
        """
        self._check(u)
        # Padding is 0 in `u` and in every state, since the next convolution reads it.
        u = apply_mask(u, mask)
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
            return self._gated(u, parameters, train, mask, options)
        norm = self._step_norm("norm", self.steps + 1)
        feedforward = convolve(u, parameters["kernel"])
        kernels, entries = parameters.get("recurrent_kernel"), norm.entries(steps + 1)
        if steps and kernels is not None:
            why_not = self._why_not(feedforward, kernels, train, mask, options)
            if forms.compiled("iterations of an RCL", why_not):
                states, used = self._compiled(feedforward, kernels, entries, train, options)
                norm.record(used, mask)
                return states

        def activation(z: Array, entries: Entries) -> tuple[Array, Entries]:
            z, used = self._normalize(z, entries, train, mask)
            return apply_mask(self._activate(z), mask), used

        states, used = rcl(feedforward, kernels, activation, entries, **options)
        norm.record(used, mask)
        return states

    def _why_not(
        self,
        feedforward: Array,
        kernels: Array,
        train: bool,
        mask: Array | None,
        options: dict[str, Any],
    ) -> str:
        """Returns why the iterations run in XLA's form, empty if they are compiled."""
        if convolutions_are_direct():
            return "convolutions are direct"
        if train and rows_masked():
            return "padding is masked"
        why_not = choice.exponent(self.lrn_beta) if self.norm == "lrn" else ""
        return why_not or choice.iterations(
            feedforward, kernels, options, norm=self.norm, mask=mask
        )

    def _compiled(
        self,
        feedforward: Array,
        kernels: Array,
        entries: Entries,
        train: bool,
        options: dict[str, Any],
    ) -> tuple[Array, Entries]:
        """Computes the states by compiled kernels, and returns the statistics that were used."""
        steps, gamma = options["steps"], options["gamma"]
        each = kernels_of_steps(kernels, feedforward.ndim, steps)
        kernels = kernels if each is None else each
        feedforward, kernels, *values = aligned(feedforward, kernels, *entries.values())
        entries = dict(zip(entries, values, strict=True))
        run = (steps, gamma, options["all_states"])
        if self.norm == "lrn":
            size = lrn_window(self.features) if self.lrn_size is None else self.lrn_size
            response = compiled.Response.of(size, self.lrn_alpha, self.lrn_beta)
            return compiled.rcl_response(*run, response, feedforward, kernels, entries["bias"]), {}
        scale, bias = entries["scale"], entries["bias"]
        if train:
            results: Any = compiled.rcl_batch(
                *run, self.epsilon, total_over_data, feedforward, kernels, scale, bias
            )
            states, mean, var = results
            return states, {"mean": mean, "var": var}
        factor = scale * lax.rsqrt(entries["var"] + self.epsilon)
        norms = compiled.Norms(entries["mean"], factor, bias)
        return compiled.rcl_frozen(*run, feedforward, kernels, norms), {}

    def _gated(
        self,
        u: Array,
        parameters: dict[str, Array],
        train: bool,
        mask: Array | None,
        options: dict[str, Any],
    ) -> Array:
        """Computes the states of a gated layer from its parameters, see `gated_rcl`."""
        # Without an affine normalization one bias per sum suffices; further ones would add to it.
        places = ["feedforward", "gate_feedforward"]
        if self.norm not in ("lrn", "none"):
            places += ["recurrent", "product", "gate_recurrent"]
        norms = {
            place: self._step_norm(f"norm_{place}", self.steps + (place == "feedforward"))
            for place in places
        }

        def normalizer(place: str, z: Array, entries: Entries | None) -> tuple[Array, Entries]:
            return (z, {}) if entries is None else self._normalize(z, entries, train, mask)

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
            lambda z: apply_mask(self._activate(z), mask),
            **options,
        )
        for place, norm in norms.items():
            norm.record(used.get(place, {}), mask)
        return states

    def _parameters(self, u: Array) -> tuple[Array, dict[str, Array]]:
        """Declares the kernels; returns input and kernels by name, cast to the dtype in use."""
        window = tuple(self.kernel_size)
        recurrent_window = tuple(self.recurrent_kernel_size or window)
        pointwise = (1,) * len(window)
        forward = kernel_initializer(self.kernel_init)
        recurrent = kernel_initializer(self.recurrent_init)
        square = (self.features, self.features)
        declared: dict[str, tuple[Any, tuple[int, ...]]] = {}
        declared["kernel"] = (forward, (*window, u.shape[-1], self.features))
        if self.steps:
            declared["recurrent_kernel"] = (recurrent, (*recurrent_window, *square))
        if self.steps and self.gated:
            declared["gate_kernel"] = (forward, (*pointwise, u.shape[-1], self.features))
            declared["recurrent_gate_kernel"] = (recurrent, (*pointwise, *square))
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
        self, z: Array, entries: Entries, train: bool, mask: Array | None
    ) -> tuple[Array, Entries]:
        return normalize(
            z, entries, kind=self.norm, train=train, groups=self.groups, epsilon=self.epsilon,
            mask=mask,
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
    """Returns an initializer that draws independent kernels along a leading axis.

    The fan-in is that of a single kernel.
    """

    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return jax.vmap(lambda k: initializer(k, shape[1:], dtype))(jax.random.split(key, shape[0]))

    return draw


def extend_steps(variables: PyTree, longer: PyTree) -> PyTree:
    """Converts the variables of a net trained for T steps to those of the same net with more steps.

    Leaves that are kept per step get further entries equal to their last one, which is what a call
    with more steps uses by rule. Running the longer net over training images with `train=True` then
    fits separate statistics for the new steps.

    Args:
        variables: Variables of the trained net, a pytree of arrays.
        longer: Variables of the longer net, or their shapes as `jax.eval_shape` of `init` returns
            them.

    Returns:
        Variables with the values of `variables` and the shapes of `longer`.

    Raises:
        ValueError: If the shapes of a leaf differ in more than a longer leading axis.
    """

    def extend(leaf: ArrayLike, target: Array | jax.ShapeDtypeStruct) -> Array:
        leaf = jnp.asarray(leaf)
        if leaf.ndim != target.ndim or leaf.shape[1:] != target.shape[1:]:
            raise ValueError(
                f"cannot extend an array of shape {leaf.shape} over time to {target.shape}"
            )
        if leaf.shape == target.shape:
            return leaf
        index = jnp.minimum(jnp.arange(target.shape[0]), leaf.shape[0] - 1)
        return leaf[index]

    return jax.tree.map(extend, variables, longer)
