"""Alphabets: the characters of transcripts and their ids.

A character is a Unicode code point after normalization. Id 0 is the blank of connectionist temporal
classification; the characters of the alphabet follow in the order of their code points.
"""

import collections
import dataclasses
import functools
import unicodedata
from collections.abc import Mapping

import numpy as np

NORMALIZATIONS = ("NFC", "NFKC", "none")


def normalized(text: str, normalization: str) -> str:
    """Returns a text in a Unicode normal form.

    Args:
        text: Any text.
        normalization: `NFC` composes accents, `NFKC` also replaces ligatures, wide letters and the
            like, and `none` leaves the text unchanged.
    """
    if normalization == "none":
        return text
    return unicodedata.normalize(normalization, text)  # pyright: ignore[reportArgumentType]


def decoded(stored: np.ndarray) -> str:
    """Decodes UTF-8 bytes.

    Args:
        stored: UTF-8 bytes `uint8[bytes]`.

    Raises:
        ValueError: If the bytes are not UTF-8; the message names the first invalid byte.
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
    """Characters and their ids: the character of id i is `characters[i - 1]`.

    Attributes:
        characters: The characters, one code point each.

    Raises:
        ValueError: If there is no character, or an entry is repeated or not a single code point.

    Example:
        >>> from rcnn_jax.data.text.alphabet import Alphabet
        >>> alphabet = Alphabet(("a", "b", "c"))
        >>> alphabet.encode("cab?").tolist()
        [3, 1, 2, 4]
        >>> alphabet.unknown("cab?")
        [3]
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
        """Id of characters outside the alphabet: one after the last, which no model can predict."""
        return len(self) + 1

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of the characters of a text.

        Args:
            text: A normalized text.

        Returns:
            Ids `int32[characters]` from 1; characters outside the alphabet have the id
            `unknown_id`.
        """
        return np.array([self._ids.get(c, self.unknown_id) for c in text], np.int32)

    def unknown(self, text: str) -> list[int]:
        """Returns the positions, from 0, of the characters of a text that the alphabet lacks.

        Args:
            text: A normalized text.
        """
        return [place for place, character in enumerate(text) if character not in self._ids]

    def to_array(self) -> np.ndarray:
        """Returns the code points, `uint32[characters]`, as a workdir keeps them."""
        return np.array([ord(character) for character in self.characters], np.uint32)

    @classmethod
    def from_array(cls, array: np.ndarray) -> "Alphabet":
        """Returns the alphabet that `to_array` stored.

        Args:
            array: Code points `uint32[characters]`.

        Raises:
            ValueError: If the array does not hold an alphabet.
        """
        array = np.asarray(array)
        if array.ndim != 1 or array.dtype != np.uint32 or (array > 0x10FFFF).any():
            raise ValueError(
                "an alphabet is stored as code points, uint32 [n], got "
                f"{array.dtype}{list(array.shape)}"
            )
        return cls(tuple(chr(point) for point in array.tolist()))
