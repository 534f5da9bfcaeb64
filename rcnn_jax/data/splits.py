"""The split syntax of configs: `train`, `train[:40000]`, `train[10%:]+validation`.

It is the common part of TFDS's syntax with the same meaning, percent rounded to the nearest
example, but works for every data set and without TFDS.
"""

import dataclasses
import hashlib
import re
from collections.abc import Mapping

from rcnn_jax.errors import did_you_mean

SPLITS = ("train", "validation", "test")
"""The splits of data sets that the user divides, or that a hash of names divides."""

_PART = re.compile(r"(?P<name>\w+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


@dataclasses.dataclass(frozen=True)
class Part:
    """One summand of a split expression.

    Attributes:
        name: of the split.
        start: first example, such as `100`, `-100` or `10%`; `None` is the beginning.
        stop: one past the last example; `None` is the end.
    """

    name: str
    start: str | None = None
    stop: str | None = None

    def __str__(self) -> str:
        if self.start is None and self.stop is None:
            return self.name
        return f"{self.name}[{self.start or ''}:{self.stop or ''}]"

    def range(self, size: int) -> range:
        """The indices it selects from a split of `size` examples.

        Raises:
            ValueError: if a bound lies outside the split, or nothing is left: a slice that
                silently holds fewer examples than it says would falsify a result.
        """
        bounds = range(_bound(self.start, 0, size), _bound(self.stop, size, size))
        if bounds.start < 0 or bounds.stop > size or len(bounds) == 0:
            raise ValueError(
                f"split {str(self)!r} selects examples {bounds.start} to {bounds.stop} of "
                f"{self.name!r}, which has {size:,}"
            )
        return bounds


def _bound(text: str | None, default: int, size: int) -> int:
    if text is None:
        return default
    value = round(int(text[:-1]) * size / 100) if text.endswith("%") else int(text)
    return value + size if text.startswith("-") else value


def parse(text: str) -> tuple[Part, ...]:
    """Parses a split expression.

    Raises:
        ValueError: if it is none; the sentence shows the forms there are.
    """
    matches = [_PART.fullmatch(part.strip()) for part in text.split("+")]
    parts = tuple(Part(m["name"], m["start"], m["stop"]) for m in matches if m is not None)
    if len(parts) < len(matches):
        raise ValueError(
            f"split {text!r} is not understood; write it like 'train', 'train[:40000]', "
            "'train[-10000:]', 'train[10%:90%]' or 'train[:40000]+validation'"
        )
    return parts


def check_names(parts: tuple[Part, ...], known: Mapping[str, object], dataset: str) -> None:
    """Raises `ValueError` naming the nearest split where the data set has no such split."""
    for part in parts:
        if part.name not in known:
            raise ValueError(
                f"data set {dataset!r} has no split {part.name!r}, only {', '.join(known)}"
                f"{did_you_mean(part.name, known)}"
            )


def split_of(name: str, held_out: float) -> str:
    """The split of a file that the user put in none, by a hash of its name.

    Args:
        name: Of the file, without its folder's path.
        held_out: The share of files for validation, and again for test, in `[0, 0.5)`.
    """
    digest = hashlib.sha256(name.encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < held_out:
        return "test"
    return "validation" if place < 2 * held_out else "train"
