"""The characters that a transcriber writes, as numbers.

A character is a Unicode code point after normalisation. Id 0 belongs to the blank of connectionist
temporal classification, the characters of the alphabet follow in the order of their code points.
"""

import collections
import dataclasses
import functools
import unicodedata
from collections.abc import Mapping

import numpy as np

NORMALIZATIONS = ("NFC", "NFKC", "none")


def normalized(text: str, normalization: str) -> str:
    """A text in one of several ways to write the same.

    Args:
        text: any.
        normalization: `NFC` composes accents, `NFKC` also replaces ligatures, wide letters and the
            like, `none` leaves the text as it is.
    """
    if normalization == "none":
        return text
    return unicodedata.normalize(normalization, text)  # pyright: ignore[reportArgumentType]


def decoded(stored: np.ndarray) -> str:
    """A text from its UTF-8 bytes, uint8 `[bytes]`.

    Raises:
        ValueError: they are no UTF-8; the sentence names the byte.
    """
    data = np.asarray(stored, np.uint8).tobytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {error.start} ({data[error.start]:#04x}) of its text is no UTF-8"
        ) from None


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """Characters and their ids: the one of id i is `characters[i - 1]`.

    Attributes:
        characters: one code point each.
    """

    characters: tuple[str, ...]

    def __post_init__(self) -> None:
        wrong = [c for c in self.characters if len(c) != 1]
        wrong += [c for c, n in collections.Counter(self.characters).items() if n > 1]
        if wrong or not self.characters:
            raise ValueError(
                "an alphabet holds at least one character and each once, got "
                f"{wrong[0] if wrong else ''!r}{' among them' if wrong else ''}"
            )

    def __len__(self) -> int:
        return len(self.characters)

    @functools.cached_property
    def _ids(self) -> Mapping[str, int]:
        return {character: number for number, character in enumerate(self.characters, start=1)}

    @property
    def unknown_id(self) -> int:
        """The id of characters that it has not: one behind its last, which no model can write."""
        return len(self) + 1

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, int32 `[characters]`."""
        return np.array([self._ids.get(c, self.unknown_id) for c in text], np.int32)

    def unknown(self, text: str) -> list[int]:
        """The positions, from 0, of the characters of a text that it has not."""
        return [place for place, character in enumerate(text) if character not in self._ids]

    def to_array(self) -> np.ndarray:
        """The code points, uint32 `[n]`: what a workdir keeps."""
        return np.array([ord(character) for character in self.characters], np.uint32)

    @classmethod
    def from_array(cls, array: np.ndarray) -> "Alphabet":
        """Reads what `to_array` made.

        Raises:
            ValueError: the array holds something else.
        """
        array = np.asarray(array)
        if array.ndim != 1 or array.dtype != np.uint32 or (array > 0x10FFFF).any():
            raise ValueError(
                "an alphabet is stored as code points, uint32 [n], got "
                f"{array.dtype}{list(array.shape)}"
            )
        return cls(tuple(chr(point) for point in array.tolist()))
