"""Texts in the order of the eye: as a picture of a line shows them from left to right.

Files hold Hebrew, Arabic and Persian in logical order, in which they are read and typed. A picture
shows them from right to left, and numbers and Latin words among them from left to right. What reads
pictures along their width, as CTC does, can only learn the visual order.
"""

import collections
import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.text import bidirectional
from rcnn_jax.data.text.readings import plain_reading, readings
from rcnn_jax.data.text.word_pairs import WordPairs

BASE_DIRECTIONS = ("auto", "line", "L", "R")

# Texts whose logical order is kept.
_KEPT = 50_000


@dataclasses.dataclass(frozen=True)
class VisualOrder:
    """Turns texts from logical to visual order and back.

    A text in visual order holds what is seen from left to right: brackets have the shape that they
    are displayed in, and marks such as Hebrew points follow their letter. Characters that only
    control directions, such as U+200F, have had their effect and are left out. Texts without
    characters of the bidirectional classes R, AL and AN stay as they are.

    The way back finds texts that are displayed as what is seen. There may be several: in a line
    from right to left, "5 GB" and "GB 5" look alike. Of these it takes the one whose neighbouring
    words were right in such lines of the training split, see `rcnn_jax.data.text.word_pairs`. Of
    equally plausible ones it is one with numbers behind words. If no text is displayed as what is
    seen, as with many wrong answers, the result is one that is displayed much like it.

    Attributes:
        base: Rule for the base direction of a line. `L` and `R` are for all lines. `line` is the
            direction of the first letter of the text (rules P2 and P3), which is not seen in a line
            with letters of both directions. By `auto`, a line whose letters have one direction has
            that one, and all others have `direction`.
        direction: Base direction, `L` or `R`, where `base` leaves it open.
        pairs: Pairs of words by which texts that look alike are distinguished.
    """

    base: str
    direction: str
    pairs: WordPairs = dataclasses.field(default_factory=WordPairs)

    @classmethod
    def fit(cls, texts: Iterable[str], base: str = "auto") -> "VisualOrder":
        """Returns the order of the lines of a training split.

        Args:
            texts: Texts in logical order.
            base: Rule for the base direction. With `auto` and `line`, `direction` is that of the
                first letter of most lines that have letters of both directions, `R` by default.

        Raises:
            ValueError: If python-bidi is needed and not installed.
        """
        lines = [text for text in texts if bidirectional.has_right_to_left(text)]
        direction = base
        if base not in bidirectional.DIRECTIONS:
            mixed = [text for text in lines if len(bidirectional.letter_directions(text)) > 1]
            firsts = collections.Counter(map(bidirectional.first_strong, mixed))
            direction = "L" if firsts["L"] > firsts["R"] else "R"
        order = cls(base, direction)
        alike: dict[str, list[str]] = {}
        examples = []
        for text in lines:
            seen, wanted = order.visual(text), bidirectional.visible(text)
            if seen not in alike:
                alike[seen] = order._readings(seen)
            if wanted in alike[seen]:
                examples.append((wanted, alike[seen], order._direction(wanted)))
        order = cls(base, direction, WordPairs.count(examples))
        for seen, found in itertools.islice(alike.items(), _KEPT):
            order._known[seen] = order._chosen(seen, found)
        return order

    def visual(self, text: str) -> str:
        """Returns a text as it is seen from left to right.

        Args:
            text: A line of text in logical order, of at most 32,768 characters.

        Raises:
            ValueError: If python-bidi is needed and not installed, or the line is longer.
        """
        if not bidirectional.has_right_to_left(text):
            return text
        return bidirectional.displayed(text, self._direction(text))

    def logical(self, seen: str) -> str:
        """Returns the most plausible text that is displayed as what is seen.

        Args:
            seen: A text in visual order, or an answer like it.

        Raises:
            ValueError: If python-bidi is needed and not installed.
        """
        if not bidirectional.has_right_to_left(seen):
            return seen
        # The same references are turned back at every evaluation.
        told = self._known.get(seen)
        if told is None:
            told = self._chosen(seen, self._readings(seen))
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[seen] = told
        return told

    @functools.cached_property
    def _known(self) -> dict[str, str]:
        return {}

    def differing(self, texts: Iterable[str]) -> Iterator[tuple[str, str] | None]:
        """Turns texts to visual order and back.

        Args:
            texts: Texts in logical order.

        Yields:
            For each text with characters from right to left: None if it comes back as it was, up to
            characters that only control directions; otherwise the text and what it became.
        """
        for text in texts:
            if bidirectional.has_right_to_left(text):
                back = self.logical(self.visual(text))
                yield None if back == bidirectional.visible(text) else (text, back)

    def to_array(self) -> np.ndarray:
        """Returns UTF-8 bytes of JSON, `uint8[bytes]`, as a workdir keeps them."""
        return np.frombuffer(
            json.dumps(dataclasses.asdict(self), ensure_ascii=False).encode(), np.uint8
        )

    @classmethod
    def from_array(cls, array: np.ndarray) -> "VisualOrder":
        """Returns the order that `to_array` stored.

        Args:
            array: UTF-8 bytes of JSON, `uint8[bytes]`.

        Raises:
            ValueError: If the array does not hold an order.
        """
        try:
            content: Any = json.loads(np.asarray(array, np.uint8).tobytes())
            counts = tuple(
                (str(base), str(word), str(following), int(right), int(wrong))
                for base, word, following, right, wrong in content["pairs"]["counts"]
            )
            order = cls(content["base"], content["direction"], WordPairs(counts))
            valid = order.base in BASE_DIRECTIONS and order.direction in bidirectional.DIRECTIONS
        except (ValueError, KeyError, TypeError):
            valid, order = False, cls("R", "R")
        if not valid:
            raise ValueError("an order of texts is stored as JSON, got something else")
        return order

    def _direction(self, text: str) -> str:
        """Returns the base direction of a text in logical order."""
        if self.base == "line":
            return bidirectional.first_strong(text) or "L"
        return self._directions(text)[0]

    def _directions(self, seen: str) -> Sequence[str]:
        """Returns the base directions that a line may have, the likeliest first."""
        letters = bidirectional.letter_directions(seen)
        if self.base == "auto":
            return tuple(letters) if len(letters) == 1 else (self.direction,)
        if self.base == "line":
            return sorted(letters, key=lambda each: each != self.direction) or ("L",)
        return (self.direction,)

    def _readings(self, seen: str) -> list[str]:
        """Returns the texts that are displayed as what is seen."""
        for direction in self._directions(seen):
            found = readings(seen, direction)
            if self.base == "line":
                found = [text for text in found if self._direction(text) == direction]
            if found:
                return found
        return []

    def _chosen(self, seen: str, texts: Sequence[str]) -> str:
        """Returns the most plausible of the texts that are displayed as what is seen."""
        if not texts:
            return plain_reading(seen, self._directions(seen)[0])
        return self.pairs.choose(texts, self._direction(texts[0]))
