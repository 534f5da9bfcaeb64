"""Language models and lexica for beam search: tables of label sequences, and lists of words.

The tables are NumPy or JAX arrays whose values are known, so that they are constants inside `jit`.
Labels have the order in which the logits are read. For pictures of text from right to left this is
visual order: texts that a table or a list is made of are turned by
`rcnn_jax.data.text.visual_order.VisualOrder.visual` first.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


class LanguageModel(NamedTuple):
    """Label n-grams as a table, or another automaton whose transitions have log-probabilities.

    A bigram model has a context for each last label and one for the start; a trigram model has one
    for each pair of labels.

    Attributes:
        log_probs: Log-probability of each label in each context, `[contexts, classes]`; that of the
            blank is not read.
        next_context: Context after each label, integers `[contexts, classes]` in 0..contexts-1.
        start: Context of the empty labelling.
    """

    log_probs: Array | np.ndarray
    next_context: Array | np.ndarray
    start: int = 0


class Lexicon(NamedTuple):
    """The allowed labellings, as the states of a trie or another automaton.

    State 0 is the start.

    Attributes:
        next_state: State after each label, integers `[states, classes]`; -1 where it is not
            allowed.
        is_word: Whether a labelling may end in each state, `bool[states]`.
    """

    next_state: Array | np.ndarray
    is_word: Array | np.ndarray


def lexicon_of(
    words: Iterable[Sequence[int]], classes: int, separator: int | None = None
) -> Lexicon:
    """Builds the trie of a list of words.

    Args:
        words: Labels of each word, at least one.
        classes: Number of classes, including the blank.
        separator: Label between two words, which allows any number of words in sequence; None
            allows labellings of one word only.

    Returns:
        A lexicon of NumPy arrays, in which the empty labelling is not a word.

    Raises:
        ValueError: A word is empty, or has a label that is the separator or not a class.

    Example:
        >>> from rcnn_jax.decoding import ctc
        >>> lexicon = ctc.lexicon_of([[1, 2], [1]], classes=3)
        >>> lexicon.next_state.tolist(), lexicon.is_word.tolist()
        ([[-1, 1, -1], [-1, -1, 2], [-1, -1, -1]], [False, True, True])
    """
    rows = [np.full(classes, -1, np.int32)]
    ends = [False]
    for word in words:
        labels = [int(label) for label in word]
        wrong = [label for label in labels if not 0 <= label < classes or label == separator]
        if wrong or not labels:
            raise ValueError(
                f"a word must be of one label or more in 0..{classes - 1} without the separator "
                f"{separator}, got {labels}"
            )
        state = 0
        for label in labels:
            if rows[state][label] < 0:
                rows[state][label] = len(rows)
                rows.append(np.full(classes, -1, np.int32))
                ends.append(False)
            state = rows[state][label]
        ends[state] = True
    next_state, is_word = np.stack(rows), np.array(ends)
    if separator is not None:
        next_state[is_word, separator] = 0
    return Lexicon(next_state, is_word)


def checked_language_model(model: LanguageModel | None, classes: int) -> LanguageModel:
    """Returns the model as arrays, or one that gives every label the log-probability 0.

    Args:
        model: Language model to check; None for no language model.
        classes: Number of classes, including the blank.

    Returns:
        A language model of JAX arrays.

    Raises:
        ValueError: A table has another shape or dtype, a log-probability is NaN or inf, or a
            context does not exist.
    """
    if model is None:
        return LanguageModel(jnp.zeros((1, classes)), jnp.zeros((1, classes), jnp.int32))
    log_probs = np.asarray(model.log_probs)
    next_context = _table("next_context", model.next_context, classes)
    if log_probs.shape != next_context.shape or not np.issubdtype(log_probs.dtype, np.floating):
        raise ValueError(
            f"log_probs of a language model must be floating-point numbers of the shape "
            f"{next_context.shape} of next_context, got {log_probs.dtype} of shape "
            f"{log_probs.shape}"
        )
    if np.isnan(log_probs).any() or np.isposinf(log_probs).any():
        raise ValueError("log_probs of a language model must be finite or -inf, got NaN or inf")
    contexts = len(next_context)
    for name, context in (("start", [model.start]), ("next_context", next_context.ravel())):
        _in_range(f"{name} of a language model", context, 0, contexts - 1)
    return LanguageModel(jnp.asarray(log_probs), jnp.asarray(next_context), model.start)


def checked_lexicon(lexicon: Lexicon | None, classes: int) -> Lexicon:
    """Returns the lexicon as arrays, or one that allows every labelling.

    Args:
        lexicon: Lexicon to check; None for no lexicon.
        classes: Number of classes, including the blank.

    Returns:
        A lexicon of JAX arrays.

    Raises:
        ValueError: A table has another shape or dtype, or a state does not exist.
    """
    if lexicon is None:
        return Lexicon(jnp.zeros((1, classes), jnp.int32), jnp.ones(1, bool))
    next_state = _table("next_state", lexicon.next_state, classes)
    is_word = np.asarray(lexicon.is_word)
    if is_word.shape != next_state.shape[:1] or is_word.dtype != bool:
        raise ValueError(
            f"is_word of a lexicon must be {len(next_state)} booleans, one for each state, got "
            f"{is_word.dtype} of shape {is_word.shape}"
        )
    _in_range("next_state of a lexicon", next_state.ravel(), -1, len(next_state) - 1)
    return Lexicon(jnp.asarray(next_state), jnp.asarray(is_word))


def _table(name: str, values: Any, classes: int) -> np.ndarray:
    """Returns a table of a language model or lexicon as int32, after checking its shape."""
    table = np.asarray(values)
    integers = np.issubdtype(table.dtype, np.integer)
    if table.ndim != 2 or table.shape[0] == 0 or table.shape[1] != classes or not integers:
        raise ValueError(
            f"{name} must be integers [at least 1, {classes} classes], got {table.dtype} of shape "
            f"{table.shape}"
        )
    return table.astype(np.int32)


def _in_range(what: str, values: Any, least: int, most: int) -> None:
    """Checks that all values are in least..most."""
    numbers = np.asarray(values)
    wrong = numbers[(numbers < least) | (numbers > most)]
    if wrong.size:
        raise ValueError(f"{what} must lie in {least}..{most}, got {wrong[0]}")
