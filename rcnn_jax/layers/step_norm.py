"""The normalization of a recurrent layer, with variables per time step or shared by all.

A recurrent layer calls its normalization once per time step. `StepNorm` holds the parameters and
running statistics of all these calls. `normalize` is the pure function of one call, so that it can
run inside `lax.scan` with the variables of its step as scanned inputs.

Steps beyond the trained T follow one rule: a step t > T uses the variables of step T.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rcnn_jax.layers.normalization import batch_normalize, group_norm, kept_share, standardize

NORMS = ("lrn", "batch", "batch_shared", "batch_split", "layer", "group", "none")

# Variables that one call reads, or statistics that it reports: name -> [channels].
Entries = dict[str, Array]


def check_norm(kind: str) -> None:
    """Raises an error unless `kind` is one of `NORMS`.

    Args:
        kind: Name of a normalization.

    Raises:
        ValueError: If the name is unknown.
    """
    if kind not in NORMS:
        raise ValueError(f'norm must be one of {", ".join(NORMS)}, got "{kind}"')


def normalize(
    z: Float[Array, "batch *spatial channels"],
    entries: Entries,
    *,
    kind: str,
    train: bool,
    groups: int,
    epsilon: float,
    mask: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "batch *spatial channels"], Entries]:
    """Normalizes the pre-activation of one time step, before the rectification.

    For `"lrn"` and `"none"` only the bias is added (LRN follows the rectification). All other kinds
    normalize and apply their affine parameters.

    Args:
        z: Pre-activation `[batch, *spatial, channels]`.
        entries: Variables of this call by name, each `[channels]`; see `StepNorm.entries`.
        kind: Kind of normalization, one of `NORMS`.
        train: Whether batch normalization uses the statistics of the batch instead of the running
            ones.
        groups: Number of groups of channels of `"group"` normalization.
        epsilon: Constant added to variances.
        mask: Mask `bool[batch, *spatial]` that is true where a position contributes to statistics;
            a spatial axis may have size 1. None includes all positions.

    Returns:
        A pair of the normalized `z` and the batch statistics `mean` and `var` that were used,
        `[channels]` each; the latter is empty unless a batch normalization runs in training.
    """
    if kind in ("lrn", "none"):
        bias = entries["bias"].astype(z.dtype)
        return z + jnp.expand_dims(bias, tuple(range(z.ndim - 1))), {}
    scale, bias = entries["scale"], entries["bias"]
    if kind in ("layer", "group"):
        count = groups if kind == "group" else 1
        return group_norm(z, scale, bias, groups=count, epsilon=epsilon, mask=mask), {}
    if not train:
        mean, variance = entries["mean"], entries["var"]
        return standardize(z, mean, variance, scale, bias, epsilon=epsilon), {}
    y, mean, variance = batch_normalize(z, scale, bias, epsilon=epsilon, mask=mask)
    return y, {"mean": mean, "var": variance}


class StepNorm(nn.Module):
    """Parameters and running statistics of a normalization that is called several times.

    | kind         | scale, bias   | mean, var (`batch_stats`)    |
    |--------------|---------------|------------------------------|
    | lrn, none    | bias `[C]`    |                              |
    | layer, group | `[C]`         |                              |
    | batch        | `[calls, C]`  | `[calls, C]`                 |
    | batch_split  | `[C]`         | `[calls, C]`                 |
    | batch_shared | `[C]`         | `[C]`, updated by every call |

    Attributes:
        kind: Kind of normalization, one of `NORMS`.
        features: Number of channels C.
        calls: Trained number of calls, T + 1 for a layer that iterates T times.
        momentum: Fraction of the running statistics that an update keeps, in [0, 1].
        param_dtype: Dtype of parameters and running statistics.
    """

    kind: str
    features: int
    calls: int
    momentum: float = 0.9
    param_dtype: str = "float32"

    def setup(self) -> None:
        """Declares the parameters and running statistics."""
        check_norm(self.kind)
        dtype = jnp.dtype(self.param_dtype)
        shared_shape = (self.features,)
        per_call_shape = (self.calls, self.features)
        affine = per_call_shape if self.kind == "batch" else shared_shape
        if self.kind not in ("lrn", "none"):
            self.scale = self.param("scale", nn.initializers.ones, affine, dtype)
        self.bias = self.param("bias", nn.initializers.zeros, affine, dtype)
        if self.kind.startswith("batch"):
            statistics = shared_shape if self.kind == "batch_shared" else per_call_shape
            self.mean = self.variable("batch_stats", "mean", jnp.zeros, statistics, dtype)
            self.var = self.variable("batch_stats", "var", jnp.ones, statistics, dtype)

    def entries(self, calls: int) -> Entries:
        """Returns the variables that calls 0..calls-1 read.

        Variables per call beyond the last trained call equal those of that call. Shared variables
        are repeated.

        Args:
            calls: Number of calls.

        Returns:
            A dict from the names `scale`, `bias`, `mean` and `var`, as far as the kind of
            normalization has them, to arrays `[calls, channels]`.
        """
        values = {"bias": self.bias}
        if self.kind not in ("lrn", "none"):
            values["scale"] = self.scale
        if self.kind.startswith("batch"):
            values |= {"mean": self.mean.value, "var": self.var.value}
        index = jnp.minimum(jnp.arange(calls), self.calls - 1)

        def of_calls(value: Array) -> Array:
            return value[index] if value.ndim == 2 else jnp.tile(value, (calls, 1))

        # A NumPy array cannot be indexed by a traced array.
        return {name: of_calls(jnp.asarray(value)) for name, value in values.items()}

    def record(self, used: Entries, mask: Array | None = None) -> None:
        """Updates the running statistics with the batch statistics that the calls used.

        Statistics per call are updated once. Those of calls that did not happen stay, and those
        used beyond the trained calls are not recorded. Shared statistics are updated once per call,
        in order.

        Args:
            used: Batch statistics `mean` and `var`, each `[calls, channels]`, or an empty dict if
                no batch statistics were used.
            mask: Mask `bool[batch, *spatial]` of the positions that contributed to the statistics;
                without any of them nothing is updated. None includes all positions.
        """
        if not used or self.is_initializing():
            return
        keep = kept_share(self.momentum, mask)
        for name, variable in (("mean", self.mean), ("var", self.var)):
            running, new = jnp.asarray(variable.value), used[name]
            if running.ndim == 1:
                for value in new:
                    running = keep * running + (1 - keep) * value
            else:
                ran = min(new.shape[0], running.shape[0])
                running = running.at[:ran].set(keep * running[:ran] + (1 - keep) * new[:ran])
            variable.value = running.astype(variable.value.dtype)
