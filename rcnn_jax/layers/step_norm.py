"""The normalization of a recurrent layer: what is kept per time step and what is shared.

A recurrent layer calls its normalization once per time step. `StepNorm` owns the parameters and
running statistics of all these calls; `normalize` is the pure function of one call, so that it
can run inside `lax.scan` with the entries of its step scanned as inputs.

Rule for steps beyond the trained T: a step t > T uses the entries of step T.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rcnn_jax.layers.normalization import batch_normalize, group_norm, kept_share, standardize

NORMS = ("lrn", "batch", "batch_shared", "batch_split", "layer", "group", "none")

# What one call reads, or what it reports: name -> [channels].
Entries = dict[str, Array]


def check_norm(kind: str) -> None:
    """Raises ValueError unless `kind` is one of `NORMS`."""
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
    live: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "batch *spatial channels"], Entries]:
    """What happens to a pre-activation before the rectification at one time step.

    For `"lrn"` and `"none"` only the bias is added (LRN follows the rectification); all others
    normalize and apply their affine.

    Args:
        z: pre-activation `[batch, *spatial, channels]`.
        entries: the entries of this call, see `StepNorm.entries`.
        kind: one of `NORMS`.
        train: normalize with the statistics of the batch (batch norms only).
        groups: number of groups of `"group"`.
        epsilon: added to variances.
        live: which positions count in statistics, see `batch_moments`. None: all.

    Returns:
        The normalized `z`, and the batch statistics `mean`, `var` that were used: empty unless a
        batch norm runs in training.
    """
    if kind in ("lrn", "none"):
        bias = entries["bias"].astype(z.dtype)
        return z + jnp.expand_dims(bias, tuple(range(z.ndim - 1))), {}
    scale, bias = entries["scale"], entries["bias"]
    if kind in ("layer", "group"):
        count = groups if kind == "group" else 1
        return group_norm(z, scale, bias, groups=count, epsilon=epsilon, live=live), {}
    if not train:
        mean, variance = entries["mean"], entries["var"]
        return standardize(z, mean, variance, scale, bias, epsilon=epsilon), {}
    y, mean, variance = batch_normalize(z, scale, bias, epsilon=epsilon, live=live)
    return y, {"mean": mean, "var": variance}


class StepNorm(nn.Module):
    """Parameters and running statistics of a normalization that is called several times.

    | kind         | scale, bias   | mean, var (`batch_stats`) |
    |--------------|---------------|---------------------------|
    | lrn, none    | bias `[C]`    |                           |
    | layer, group | `[C]`         |                           |
    | batch        | `[calls, C]`  | `[calls, C]`              |
    | batch_split  | `[C]`         | `[calls, C]`              |
    | batch_shared | `[C]`         | `[C]`, moved every call   |

    Attributes:
        kind: one of `NORMS`.
        features: number of channels C.
        calls: trained number of calls, T + 1 for a layer that iterates T times.
        momentum: share of the running statistics kept at an update.
        param_dtype: dtype of parameters and running statistics.
    """

    kind: str
    features: int
    calls: int
    momentum: float = 0.9
    param_dtype: str = "float32"

    def setup(self) -> None:
        """Declares the variables."""
        check_norm(self.kind)
        dtype = jnp.dtype(self.param_dtype)
        one = (self.features,)
        each = (self.calls, self.features)
        affine = each if self.kind == "batch" else one
        if self.kind not in ("lrn", "none"):
            self.scale = self.param("scale", nn.initializers.ones, affine, dtype)
        self.bias = self.param("bias", nn.initializers.zeros, affine, dtype)
        if self.kind.startswith("batch"):
            statistics = one if self.kind == "batch_shared" else each
            self.mean = self.variable("batch_stats", "mean", jnp.zeros, statistics, dtype)
            self.var = self.variable("batch_stats", "var", jnp.ones, statistics, dtype)

    def entries(self, calls: int) -> Entries:
        """What calls 0..calls-1 read, each entry `[calls, channels]`.

        Entries kept per call are those of the last trained call from there on; shared ones are
        repeated.
        """
        values = {"bias": self.bias}
        if self.kind not in ("lrn", "none"):
            values["scale"] = self.scale
        if self.kind.startswith("batch"):
            values |= {"mean": self.mean.value, "var": self.var.value}
        index = jnp.minimum(jnp.arange(calls), self.calls - 1)

        def of_calls(value: Array) -> Array:
            return value[index] if value.ndim == 2 else jnp.tile(value, (calls, 1))

        # An array of NumPy cannot be indexed by what is traced.
        return {name: of_calls(jnp.asarray(value)) for name, value in values.items()}

    def record(self, used: Entries, live: Array | None = None) -> None:
        """Moves the running statistics towards the batch statistics that the calls used.

        Statistics kept per call move once; those of calls that did not happen stay, and those
        used beyond the trained calls are not recorded. Shared statistics move once per call, in
        order.

        Args:
            used: `mean` and `var`, each `[calls, channels]`, or empty where nothing was used.
            live: which positions they are of, see `batch_moments`.
        """
        if not used or self.is_initializing():
            return
        keep = kept_share(self.momentum, live)
        for name, variable in (("mean", self.mean), ("var", self.var)):
            running, new = jnp.asarray(variable.value), used[name]
            if running.ndim == 1:
                for value in new:
                    running = keep * running + (1 - keep) * value
            else:
                ran = min(new.shape[0], running.shape[0])
                running = running.at[:ran].set(keep * running[:ran] + (1 - keep) * new[:ran])
            variable.value = running.astype(variable.value.dtype)
