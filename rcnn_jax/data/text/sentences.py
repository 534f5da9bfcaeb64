"""Sentences as a data set stores them: UTF-8 bytes, words separated by one space.

Sentences differ in length and are not numbers yet: which ids their words get is a matter of a
vocabulary, which is fitted on the training split and not part of a data set.
"""

from collections.abc import Iterable

import numpy as np

from rcnn_jax.data.spec import Feature

TEXT = Feature((None,), "uint8")
"""A feature that holds the words of a sentence, or its tags."""


def to_bytes(words: Iterable[str]) -> np.ndarray:
    """Words as uint8 `[bytes]`.

    Raises:
        ValueError: a word is empty or holds a space, and could not be told from two.
    """
    words = list(words)
    for word in words:
        if not word or " " in word:
            raise ValueError(f"a word is not empty and holds no space, got {word!r}")
    return np.frombuffer(" ".join(words).encode(), np.uint8)


def to_words(text: np.ndarray) -> list[str]:
    """The words of uint8 `[bytes]`.

    Raises:
        ValueError: the bytes are no UTF-8.
    """
    try:
        decoded = np.asarray(text, np.uint8).tobytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"a sentence is stored as UTF-8, got {error.object!r}") from None
    return decoded.split(" ") if decoded else []
