"""Which parameters are cut over the devices of the axis `fsdp`, and along which dimension.

Fully sharded data parallelism (Rajbhandari et al., ZeRO, 2020): every device holds a part of each
large parameter, of its moments and of its average, and the compiler gathers what a layer needs
when it needs it. Small parameters are cheaper to keep whole.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

from rcnn_jax.errors import UsageError
from rcnn_jax.training import parameters
from rcnn_jax.training.interface import PyTree

# path of a parameter -> (its shape, the dimension that is cut or None)
Cut = Mapping[str, tuple[tuple[int, ...], int | None]]
LARGEST, WHOLE = "largest", "whole"


@dataclasses.dataclass(frozen=True)
class Rules:
    """A table of patterns and what they say; the last pattern that matches a whole path counts.

    Attributes:
        table: Pairs (pattern of a parameter's path, rule). The rule "largest" cuts the largest
            dimension that the devices divide, the last of equals; "whole" cuts nothing; a number
            names the dimension.
        min_size: "largest" leaves parameters with fewer elements whole.
    """

    table: Sequence[tuple[str, str | int]] = ((".*", LARGEST),)
    min_size: int = 2**16

    def check(self, params: PyTree, devices: int) -> None:
        """Checks that the table fits the parameters.

        Args:
            params: The parameters, or their shapes.
            devices: Along the axis `fsdp`.

        Raises:
            UsageError: A pattern matches nothing, or a dimension cannot be cut.
        """
        names = list(parameters.flatten(params))
        parameters.require_matches(
            [pattern for pattern, _ in self.table], names, "config.fsdp.rules"
        )
        self.dimensions(params, devices)

    def dimensions(self, params: PyTree, devices: int) -> Cut:
        """Decides which parameters are cut.

        Args:
            params: The parameters, or their shapes.
            devices: Along the axis `fsdp`.

        Returns:
            path -> (shape, dimension); None for a parameter that lies whole on every device.

        Raises:
            UsageError: A dimension that the table names cannot be cut into that many parts.
        """
        cut = {}
        for path, leaf in parameters.flatten(params).items():
            shape = tuple(leaf.shape)
            cut[path] = (shape, self._dimension(path, shape, devices) if devices > 1 else None)
        return cut

    def _dimension(self, path: str, shape: tuple[int, ...], devices: int) -> int | None:
        found = [rule for pattern, rule in self.table if re.fullmatch(pattern, path)]
        rule = found[-1] if found else WHOLE
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
    """The dimension along which a leaf of the state is cut.

    Args:
        cut: From `Rules.dimensions`.
        path: Of the leaf; moments and averages end in the path of their parameter.
        shape: Of the leaf; what is not shaped like the parameter is not cut with it.

    Returns:
        The dimension, None for a leaf that lies whole on every device.
    """
    parts = path.split("/")
    for start in range(len(parts)):
        # The longest end of the path that is a parameter's: `dense/kernel` may be one beside
        # `encoder/dense/kernel`.
        found = cut.get("/".join(parts[start:]))
        if found is not None:
            return found[1] if found[0] == tuple(shape) else None
    return None
