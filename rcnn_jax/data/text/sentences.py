"""Sentences as a data set stores them: UTF-8 bytes of words separated by single spaces.

Sentences differ in length and have no ids yet. The ids of words are determined by a vocabulary,
which is fitted on the training split and is not part of a data set.
"""

from collections.abc import Iterable

import numpy as np

from rcnn_jax.data.spec import Feature

TEXT = Feature((None,), "uint8")
"""The feature that holds the words of a sentence, or its tags."""


def to_bytes(words: Iterable[str]) -> np.ndarray:
    """Encodes words as UTF-8 bytes, separated by single spaces.

    Args:
        words: The words of a sentence.

    Returns:
        Array `uint8[bytes]`.

    Raises:
        ValueError: If a word is empty or contains a space, because it could not be recovered.

    Example:
        >>> from rcnn_jax.data.text.sentences import to_bytes, to_words
        >>> to_words(to_bytes(["to", "rome"]))
        ['to', 'rome']
    """
    words = list(words)
    for word in words:
        if not word or " " in word:
            raise ValueError(f"a word is not empty and holds no space, got {word!r}")
    return np.frombuffer(" ".join(words).encode(), np.uint8)


def to_words(text: np.ndarray) -> list[str]:
    """Decodes the words that `to_bytes` encoded.

    Args:
        text: UTF-8 bytes `uint8[bytes]`.

    Returns:
        The words; `[]` for no bytes.

    Raises:
        ValueError: If the bytes are not UTF-8.
    """
    try:
        decoded = np.asarray(text, np.uint8).tobytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"a sentence is stored as UTF-8, got {error.object!r}") from None
    return decoded.split(" ") if decoded else []
