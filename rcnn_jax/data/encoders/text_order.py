"""The order in which the texts of a data set are learnt: logical, or visual for pictures.

Files hold all texts in logical order. Pictures show Hebrew, Arabic and Persian from right to left,
and what reads them along their width can learn no order but the visual one. The asset `text_order`
keeps what was fitted: a `VisualOrder`, or nothing for logical order. A run without the asset is
older than it, or has no characters from right to left.
"""

import functools
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from rcnn_jax.data.text.alphabet import Alphabet
from rcnn_jax.data.text.bidirectional import has_right_to_left
from rcnn_jax.data.text.visual_order import VisualOrder

ASSET = "text_order"
ORDERS = ("auto", "visual", "logical")


def check(order: str, kind: str) -> None:
    """Checks that lines can have the order that is asked for.

    Args:
        order: One of `ORDERS`.
        kind: Name of the feature that holds the lines: `image` or `frames`.

    Raises:
        ValueError: If frames are to have texts in visual order.
    """
    if kind == "frames" and order == "visual":
        raise ValueError(
            "order='visual' is for pictures; recordings have their texts in logical order, the "
            "order of time: use 'logical' or 'auto'"
        )


def fit(texts: Sequence[str], kind: str, order: str, base_direction: str) -> VisualOrder | None:
    """Returns the order in which the texts of a training split are learnt.

    One line on stderr reports how many texts are turned to visual order, and how many of them do
    not come back from it as they were.

    Args:
        texts: Normalized texts in logical order.
        kind: Name of the feature that holds the lines: `image` or `frames`.
        order: One of `ORDERS`.
        base_direction: One of `rcnn_jax.data.text.visual_order.BASE_DIRECTIONS`.

    Returns:
        The visual order; None for logical order, also where no text is from right to left.

    Raises:
        ValueError: If python-bidi is needed and not installed.
    """
    own = [text for text in texts if has_right_to_left(text)]
    if kind == "frames" or order == "logical" or not own:
        return None
    fitted = VisualOrder.fit(own, base_direction)
    base = "of the first letter" if base_direction == "line" else fitted.direction
    changed, example = _changed(fitted, own)
    _tell(
        f"transcripts: {len(own):,} of {len(texts):,} texts have characters from right to left; "
        f"they are learnt in the order that a picture shows, with base direction {base}, and "
        f"turned back in answers, in which {changed:,} of these {len(own):,} change{example}"
    )
    return fitted


def to_asset(order: VisualOrder | None, alphabet: Alphabet) -> dict[str, np.ndarray]:
    """Returns the asset of a run on pictures, if it has characters from right to left.

    Args:
        order: What `fit` returned.
        alphabet: The alphabet of the run.

    Returns:
        `text_order` `uint8[bytes]`, which is empty for logical order; or nothing.
    """
    if order is not None:
        return {ASSET: order.to_array()}
    return {ASSET: np.zeros(0, np.uint8)} if _is_right_to_left(alphabet) else {}


def from_assets(assets: Mapping[str, np.ndarray], alphabet: Alphabet) -> VisualOrder | None:
    """Returns the order that a run has learnt; None for logical order.

    One line on stderr says so if the run is older than the asset and it learnt texts with
    characters from right to left of pictures.

    Args:
        assets: Arrays of the run by name.
        alphabet: The alphabet of the run.

    Raises:
        ValueError: If the asset does not hold an order.
    """
    stored = assets.get(ASSET)
    if stored is not None:
        return VisualOrder.from_array(stored) if stored.size else None
    if "line_height" in assets and _is_right_to_left(alphabet):
        _tell_of_older_run(alphabet)
    return None


def report(order: VisualOrder | None, texts: Sequence[str]) -> None:
    """Reports on stderr the texts of an evaluated split that do not come back as they were.

    Args:
        order: The order that the run has learnt.
        texts: Normalized texts of the split in logical order.
    """
    own = [text for text in texts if order is not None and has_right_to_left(text)]
    if order is None or not own:
        return
    changed, example = _changed(order, own)
    if changed:
        _tell(
            f"warning: {changed:,} of {len(own):,} texts of a split with characters from right to "
            f"left change when they are turned to visual order and back, and are compared as they "
            f"come back{example}"
        )


def _changed(order: VisualOrder, texts: Sequence[str]) -> tuple[int, str]:
    """Returns how many texts do not come back as they were, and words about the first."""
    changed = [found for found in order.differing(texts) if found is not None]
    example = f", such as {changed[0][0]!r}, which becomes {changed[0][1]!r}" if changed else ""
    return len(changed), example


def _is_right_to_left(alphabet: Alphabet) -> bool:
    return has_right_to_left("".join(alphabet.characters))


@functools.cache
def _tell_of_older_run(alphabet: Alphabet) -> None:
    """Says once of a run, by its alphabet, that its texts were not turned to visual order."""
    del alphabet
    _tell(
        "warning: this run is older than config.encoder.order: it learnt its texts with characters "
        "from right to left in the order of their files, usually logical order, which CTC cannot "
        "see in pictures, and answers in that order; only a new run learns the visual order"
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
