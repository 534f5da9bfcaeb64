"""What tasks return to training: both import these classes from here, and neither the other."""

from typing import Any

import flax.struct
import jax

PyTree = Any


class LossOutput(flax.struct.PyTreeNode):
    """What a batch gives in training.

    Attributes:
        total: `[]`, summed over the examples of the batch.
        count: `[]`, what `total` is divided by, once both are summed over all devices.
        model_state: Batch statistics after this batch.
        carry: Recurrent state handed to the next batch, `()` where there is none.
        metrics: name -> (sum, count), logged beside the loss.
    """

    total: jax.Array
    count: jax.Array
    model_state: PyTree
    carry: PyTree = ()
    metrics: dict[str, tuple[jax.Array, jax.Array]] = flax.struct.field(default_factory=dict)


class EvaluatedBatch(flax.struct.PyTreeNode):
    """What the evaluation of a batch gives.

    Attributes:
        sums: name -> (sum, count): metrics that are means.
        predictions: name -> `[batch, ...]`; empty unless they are wanted.
        counts: name -> sums over the batch, of any shape; empty unless they are wanted.
        carry: Recurrent state handed to the next batch of the split.
    """

    sums: dict[str, tuple[jax.Array, jax.Array]]
    predictions: dict[str, jax.Array] = flax.struct.field(default_factory=dict)
    counts: dict[str, jax.Array] = flax.struct.field(default_factory=dict)
    carry: PyTree = ()
