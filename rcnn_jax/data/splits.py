"""The split syntax of configs: `train`, `train[:40000]`, `train[10%:]+validation`.

It is the common part of TFDS's syntax with the same meaning, percentages rounded to the nearest
example, but works for every data set and without TFDS.
"""

import dataclasses
import hashlib
import re
from collections.abc import Mapping

from rcnn_jax.errors import did_you_mean

SPLITS = ("train", "validation", "test")
"""Splits of data sets that are divided by the user or by a hash of file names."""

_PART = re.compile(r"(?P<name>\w+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


@dataclasses.dataclass(frozen=True)
class Part:
    """One term of a split expression.

    Attributes:
        name: Name of the split.
        start: First example, such as `100`, `-100` or `10%`; `None` for the beginning.
        stop: One past the last example, in the same notation; `None` for the end.

    Example:
        >>> from rcnn_jax.data.splits import Part
        >>> Part("train", "10%", None).range(50)
        range(5, 50)
    """

    name: str
    start: str | None = None
    stop: str | None = None

    def __str__(self) -> str:
        if self.start is None and self.stop is None:
            return self.name
        return f"{self.name}[{self.start or ''}:{self.stop or ''}]"

    def range(self, size: int) -> range:
        """Returns the indices that the part selects from its split.

        Args:
            size: Number of examples of the split.

        Returns:
            A range of indices in `[0, size)` that is not empty.

        Raises:
            ValueError: If a bound lies outside the split or no example is left. A slice that
                silently holds fewer examples than it states would falsify a result.
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

    Args:
        text: Terms joined by `+`; each is the name of a split, optionally followed by
            `[start:stop]` in examples or percent.

    Returns:
        The terms in their order.

    Raises:
        ValueError: If the text is not a split expression; the message shows the possible forms.

    Example:
        >>> from rcnn_jax.data.splits import parse
        >>> parse("train[10%:]+validation")
        (Part(name='train', start='10%', stop=None), Part(name='validation', start=None, stop=None))
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
    """Raises `ValueError` if the data set lacks one of the splits.

    Args:
        parts: Terms of a split expression.
        known: Mapping whose keys are the splits of the data set.
        dataset: Name of the data set, for the message.

    Raises:
        ValueError: If a term names an unknown split; the message suggests the nearest name.
    """
    for part in parts:
        if part.name not in known:
            raise ValueError(
                f"data set {dataset!r} has no split {part.name!r}, only {', '.join(known)}"
                f"{did_you_mean(part.name, known)}"
            )


def split_of(name: str, held_out: float) -> str:
    """Returns the split of a file that the user assigned to none, by a hash of its name.

    Args:
        name: Name of the file without the path of its folder.
        held_out: Fraction of files for `validation`, and again for `test`, in `[0, 0.5)`.

    Returns:
        `"train"`, `"validation"` or `"test"`. It depends on the name alone.

    Example:
        >>> from rcnn_jax.data.splits import split_of
        >>> [split_of(name, held_out=0.2) for name in ("a.png", "b.png", "c.png", "d.png")]
        ['train', 'validation', 'validation', 'train']
    """
    digest = hashlib.sha256(name.encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < held_out:
        return "test"
    return "validation" if place < 2 * held_out else "train"
