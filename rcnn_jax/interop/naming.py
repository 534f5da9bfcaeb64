"""Finds out by which naming scheme, and behind which common prefix, the names in a file stand.

Training frameworks wrap networks and write the wrapper into the names: DataParallel writes
`module.features.0.weight`, `torch.compile` writes `_orig_mod.`, and a network that is a part of
another one has names such as `model.` or `backbone.` before its own. Such a prefix is removed if
the names behind it fit the network.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, TypeVar

from rcnn_jax.interop.backbone_names import MAKERS, NAMES, Names

# Parts of names that torch's own wrappers add, anywhere in a name.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_SEPARATOR = re.compile(r"[./]")
_AVERAGED = {"ema", "swa", "avg", "average", "averaged", "shadow"}
T = TypeVar("T")


class Fit(NamedTuple):
    """How names in a file fit the names of a network.

    Attributes:
        known: Number of names in the file that belong to the network.
        missing: Number of names of the network that are not in the file.
        prefix: Text before these names in the file, such as `model.`; empty without one.
        names: Naming scheme; empty if the names are those of this package.
        kind: Key of `NAMES` that the scheme belongs to; empty if the names are those of this
            package.
        makers: Those whose weights have these names; see `rcnn_jax.interop.backbone_names.MAKERS`.
    """

    known: int = 0
    missing: int = 0
    prefix: str = ""
    names: Names = {}  # noqa: RUF012
    kind: str = ""
    makers: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[int, int]:
        """The larger, the better the names fit."""
        return self.known, -self.missing


def best(found: Collection[str], kinds: Iterable[str], own: Collection[str] = ()) -> list[Fit]:
    """Returns the ways to read names that fit best.

    Args:
        found: Names in the file.
        kinds: Networks that the weights may belong to, keys of `NAMES`.
        own: Paths of the model's parameters and statistics, by which files of this package are
            named; the collection `params` may be omitted in the file.

    Returns:
        One fit for each prefix by which equally many names fit, best first, without a prefix before
        others; empty if no name belongs to a network.
    """
    behind = [
        (name[:start], name[start:])
        for name in found
        for start in (0, *(match.end() for match in _SEPARATOR.finditer(name)))
    ]
    paths = {name: path for path in own for name in (path, path.removeprefix("params/"))}
    fits = _fits(behind, paths, len(own), Fit())
    for kind in kinds:
        for names, makers in zip(NAMES.get(kind, ()), MAKERS.get(kind, ()), strict=True):
            way = Fit(names=names, kind=kind, makers=makers)
            fits += _fits(behind, names, len(names), way)
    if not fits:
        return []
    top = max(fit.rank for fit in fits)
    by_prefix: dict[str, Fit] = {}
    for fit in sorted(fits, key=lambda fit: len(fit.prefix)):
        if fit.rank == top:
            by_prefix.setdefault(fit.prefix, fit)
    return list(by_prefix.values())


def _fits(behind: list[tuple[str, str]], known: Collection[str], size: int, way: Fit) -> list[Fit]:
    """Returns a fit for every prefix behind which at least one known name stands."""
    counts: dict[str, int] = {}
    for prefix, name in behind:
        if name in known:
            counts[prefix] = counts.get(prefix, 0) + 1
    return [
        way._replace(known=count, missing=size - count, prefix=prefix)
        for prefix, count in counts.items()
    ]


def is_averaged(name: str) -> bool:
    """Returns whether a name speaks of averaged weights, such as `model_ema` or `ema`.

    Args:
        name: Key or prefix of weights in a file.

    Example:
        >>> from rcnn_jax.interop.naming import is_averaged
        >>> is_averaged("state_dict_ema"), is_averaged("schema")
        (True, False)
    """
    return not _AVERAGED.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def unwrapped(arrays: Mapping[str, T]) -> dict[str, T]:
    """Removes the parts of names that torch's wrappers add.

    Args:
        arrays: Arrays or tensors by name.

    Returns:
        The same by shorter names, in the same order; unchanged if two names would become one.

    Example:
        >>> from rcnn_jax.interop.naming import unwrapped
        >>> list(unwrapped({"module._orig_mod.fc.weight": 1, "features.module.0.bias": 2}))
        ['fc.weight', 'features.0.bias']
    """
    short = {
        name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in arrays
    }
    if len(set(short.values())) < len(short) or not all(short.values()):
        return dict(arrays)
    return {short[name]: array for name, array in arrays.items()}


def other_beginnings(lacking: Collection[str], there: Collection[str]) -> tuple[str, str] | None:
    """Returns an example if all lacking names are in a file with something before them.

    Args:
        lacking: Names of a network that a file lacks.
        there: Names in the file that are not used.

    Returns:
        A name in the file and the lacking name that it ends with; None if one of the lacking names
        is not in the file in this way, or none is lacking.
    """
    pairs = [(next((name for name in there if name.endswith(end)), None), end) for end in lacking]
    if not pairs or any(name is None for name, _ in pairs):
        return None
    return str(pairs[0][0]), pairs[0][1]
