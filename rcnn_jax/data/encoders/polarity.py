"""Whether the pictures of a data set show dark ink on bright paper or bright ink on dark.

Whether a single picture was inverted to get bright ink is a guess. Files of one origin are alike,
so the question is decided once, by the majority of the training split, and kept with the run: each
picture that is trained on, evaluated or predicted for is then treated alike, at any exposure.

A data set takes part if its examples have, beside `image`, the feature `inverted` `uint8[]`: 1 if
the file's grey values were inverted by the guess for this picture, which can thus be taken back.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.files.line_images import clearly_dark_ink, ink_is_dark
from rcnn_jax.data.sources import Source

FLAG = "inverted"
CHOICES = ("fitted", "dark_ink", "bright_ink", "each")
ASSET = "dark_ink"


@dataclasses.dataclass(frozen=True)
class Polarity:
    """Turns pictures of lines into bright ink on dark.

    Attributes:
        rule: How it is decided that a file's grey values are inverted: `dark_ink` always,
            `bright_ink` never, `each` by the picture itself, `by_mean` if their mean exceeds 127.5,
            as in runs without the asset; `as_stored` leaves pictures as the data set stores them.
    """

    rule: str

    @classmethod
    def of(cls, choice: str, assets: Mapping[str, np.ndarray], source: Source) -> "Polarity":
        """Returns the polarity of a split.

        Args:
            choice: One of `CHOICES`.
            assets: Arrays fitted on the training split; an older run has none called `dark_ink`.
            source: The split as the data set stores it.
        """
        if choice != "fitted":
            return cls(choice)
        if FLAG not in source.features:
            return cls("as_stored")
        if ASSET not in assets:
            return cls("by_mean")
        return cls("dark_ink" if assets[ASSET] else "bright_ink")

    def apply(self, image: np.ndarray, inverted: bool | None) -> np.ndarray:
        """Returns a picture as bright ink on dark.

        Args:
            image: Picture as the data set stores it, `uint8[height, width, 1]`.
            inverted: Whether it was inverted; None if the data set does not say.

        Returns:
            Picture `uint8[height, width, 1]`.
        """
        if self.rule == "as_stored" or (self.rule == "each" and inverted is not None):
            return image
        grey = 255 - image if inverted else image
        if self.rule == "by_mean":
            dark = bool(grey.mean() > 127.5)
        else:
            dark = ink_is_dark(grey) if self.rule == "each" else self.rule == "dark_ink"
        return 255 - grey if dark else grey

    def contradicted(self, image: np.ndarray, inverted: bool | None) -> bool:
        """Returns whether a picture clearly shows the other polarity than the one of its data set.

        Args:
            image: Picture as the data set stores it, `uint8[height, width, 1]`.
            inverted: Whether it was inverted; None if the data set does not say.
        """
        if inverted is None or self.rule not in ("dark_ink", "bright_ink"):
            return False
        # Most pictures agree by their own guess, and are not looked at again.
        if inverted == (self.rule == "dark_ink"):
            return False
        return clearly_dark_ink(255 - image if inverted else image) is (self.rule == "bright_ink")


def fit(inverted: np.ndarray) -> dict[str, Any]:
    """Decides the polarity of a data set by the majority of its training pictures.

    Args:
        inverted: Whether each picture was inverted by the guess for it, `[pictures]`.

    Returns:
        The asset `dark_ink`, `bool[]`.
    """
    return {ASSET: np.array(2 * np.count_nonzero(inverted) >= len(inverted))}


def report(polarity: Polarity, contradicted: Sequence[str], count: int) -> None:
    """Says on stderr that pictures contradict the polarity, or that an older run has none.

    Args:
        polarity: Polarity of a split.
        contradicted: Description of each picture that clearly shows the other one.
        count: Number of pictures of the split.
    """
    if polarity.rule == "by_mean":
        _warn(
            "this run is older than the polarity of data sets: each picture whose mean exceeds "
            "127.5 is taken for dark ink on bright paper, as in its training"
        )
    if contradicted:
        own, other = "dark ink on bright", "bright ink on dark"
        if polarity.rule == "bright_ink":
            own, other = other, own
        _warn(
            f"{len(contradicted):,} of {count:,} pictures of a split look like {other}, and all "
            f"are read as {own}, as the training split or config.encoder.polarity says; a run with "
            f"--config.encoder.polarity=each decides for each; the first is {contradicted[0]}"
        )


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
