"""Rules for which parameters are sharded over the axis `fsdp`, and along which dimension.

With fully sharded data parallelism, every device holds a part of each large parameter, of its
moments and of its average, and the compiler gathers the parameters of a layer when they are needed.
Small parameters are cheaper to replicate.

References:
    Rajbhandari et al., ZeRO: memory optimizations toward training trillion parameter models, 2020.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

from rcnn_jax.errors import UsageError
from rcnn_jax.training import parameters
from rcnn_jax.training.interface import PyTree

# Path of a parameter -> (its shape, index of the dimension that is cut, or None).
Cut = Mapping[str, tuple[tuple[int, ...], int | None]]
LARGEST, WHOLE = "largest", "whole"


@dataclasses.dataclass(frozen=True)
class Rules:
    """Table of patterns and rules; the last pattern that matches the whole path decides.

    Attributes:
        table: Pairs (regular expression for the path of a parameter, rule). The rule "largest" cuts
            the largest dimension that the number of devices divides, the last of several equal
            ones; "whole" replicates the parameter; an integer is the index of the dimension that is
            cut.
        min_size: Number of elements below which "largest" replicates a parameter.
    """

    table: Sequence[tuple[str, str | int]] = ((".*", LARGEST),)
    min_size: int = 2**16

    def check(self, params: PyTree, devices: int) -> None:
        """Checks that the table fits the parameters.

        Args:
            params: Parameters of the model, or their shapes.
            devices: Number of devices along the axis `fsdp`.

        Raises:
            UsageError: A pattern matches no parameter, or a dimension cannot be cut.
        """
        names = list(parameters.flatten(params))
        parameters.require_matches(
            [pattern for pattern, _ in self.table], names, "config.fsdp.rules"
        )
        self.dimensions(params, devices)

    def dimensions(self, params: PyTree, devices: int) -> Cut:
        """Decides along which dimension each parameter is cut.

        Args:
            params: Parameters of the model, or their shapes.
            devices: Number of devices along the axis `fsdp`.

        Returns:
            Pairs (shape, dimension) by path; the dimension is None for a replicated parameter.

        Raises:
            UsageError: A dimension that the table names cannot be cut into `devices` parts.
        """
        cut = {}
        for path, leaf in parameters.flatten(params).items():
            shape = tuple(leaf.shape)
            cut[path] = (shape, self._dimension(path, shape, devices) if devices > 1 else None)
        return cut

    def _dimension(self, path: str, shape: tuple[int, ...], devices: int) -> int | None:
        matching = [rule for pattern, rule in self.table if re.fullmatch(pattern, path)]
        rule = matching[-1] if matching else WHOLE
        if rule == WHOLE:
            return None
        if rule == LARGEST:
            fitting = [(size, i) for i, size in enumerate(shape) if size % devices == 0]
            return max(fitting)[1] if fitting and math.prod(shape) >= self.min_size else None
        assert isinstance(rule, int)
        if not 0 <= rule < len(shape) or shape[rule] % devices:
            raise UsageError(
                f"config.fsdp.rules: dimension {rule} of {path}, whose shape is {shape}, cannot be "
                f"cut over the {devices} devices of config.mesh.fsdp."
            )
        return rule


def of_parameter(cut: Cut, path: str, shape: tuple[int, ...]) -> int | None:
    """Returns the dimension along which a leaf of the state is cut.

    Args:
        cut: Dimensions of the parameters, from `Rules.dimensions`.
        path: Path of the leaf. The paths of moments and averages end in the path of their
            parameter.
        shape: Shape of the leaf. A leaf with another shape than its parameter is replicated.

    Returns:
        The dimension, or None for a replicated leaf.
    """
    parts = path.split("/")
    for start in range(len(parts)):
        # The longest suffix that is the path of a parameter counts: both `dense/kernel` and
        # `encoder/dense/kernel` may be parameters.
        parameter = cut.get("/".join(parts[start:]))
        if parameter is not None:
            return parameter[1] if parameter[0] == tuple(shape) else None
    return None
