"""Orthogonalised momentum (Muon) for the kernels of convolutions.

Optax's Muon knows matrices. A kernel of a convolution is one, too, from the values of a patch to
the output channels; this module says so, and leaves all other parameters to Adam.

    --config.optimizer.name=rcnn_jax.training.orthogonal:muon

References:
    Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024.
"""

from typing import Any

import jax
import optax

from rcnn_jax.training.interface import PyTree

Numbers = optax.contrib.MuonDimensionNumbers


def kernel_numbers(params: PyTree, *, inputs: int = 16) -> PyTree:
    """Returns which axes of each parameter make a matrix.

    Args:
        params: Parameters of a model, or their shapes.
        inputs: Least number of input channels. The first convolution, whose patches are nearly all
            of one direction, and small ones are left to Adam.

    Returns:
        For each kernel `[height, width, inputs, outputs]` the axes of its patches and of its
        outputs; untied kernels have a leading axis `[steps]` of independent matrices. None for all
        other parameters.
    """

    def numbers(path: Any, leaf: Any) -> Numbers | None:
        name = str(getattr(path[-1], "key", path[-1])) if path else ""
        untied = leaf.ndim == 5 and name.startswith("recurrent")
        if not (leaf.ndim == 4 or untied) or not name.endswith("kernel"):
            return None
        if leaf.shape[-2] < inputs:
            return None
        first = leaf.ndim - 4
        return Numbers((first, first + 1, first + 2), first + 3)

    return jax.tree_util.tree_map_with_path(numbers, params)


def muon(
    learning_rate: Any,
    *,
    beta: float = 0.95,
    ns_steps: int = 5,
    weight_decay: float = 0.0,
    others: float = 0.1,
    consistent_rms: float | None = None,
) -> optax.GradientTransformation:
    """Makes Muon for the kernels of convolutions, and Adam for all other parameters.

    Args:
        learning_rate: Learning rate of the kernels.
        beta: Fraction of the momentum that a step keeps, with Nesterov's form.
        ns_steps: Steps of the Newton-Schulz iteration that orthogonalises the momentum.
        weight_decay: Decoupled decay of the kernels, times the learning rate.
        others: Learning rate of Adam as a fraction of that of the kernels.
        consistent_rms: Root mean square of an update whatever its shape; see `optax.contrib.muon`.
            None scales by the root of outputs over inputs where this is above 1.

    Returns:
        A transformation whose updates are to be added to the parameters.
    """
    return optax.contrib.muon(
        learning_rate,
        ns_steps=ns_steps,
        beta=beta,
        weight_decay=weight_decay,
        adam_learning_rate=learning_rate * others,
        muon_weight_dimension_numbers=kernel_numbers,
        consistent_rms=consistent_rms,
    )
