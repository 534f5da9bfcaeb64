"""CIDEr-D: how well a sentence agrees with the consensus of people about a picture.

References:
    Vedantam, Zitnick & Parikh, CIDEr: consensus-based image description evaluation, CVPR 2015,
    section 3 and, for the D, its variant that clips counts and penalises lengths.
"""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn_jax.metrics.captions.ngrams import ORDERS, Counts

_SIGMA = 6.0
_SCALE = 10.0


def cider_d(
    hypotheses: Mapping[Any, Counts], references: Mapping[Any, Sequence[Counts]]
) -> dict[Any, float]:
    """Computes CIDEr-D of each picture.

    Vectors of n-gram counts, weighted by the inverse document frequency, are compared by the
    cosine, where the count of an n-gram of the sentence is clipped to that of the reference. A
    document is the set of all references of one picture; an n-gram of no reference counts as if one
    document had it. A factor `exp(-(difference of lengths)^2 / (2 * 6^2))` keeps repetition from
    paying off; as in the reference scorer, lengths are numbers of bigrams.

    Args:
        hypotheses: Dict from the id of a picture to the n-grams of its sentence; see
            `rcnn_jax.metrics.captions.ngrams`.
        references: Dict from the same ids to a list of the n-grams of each reference.

    Returns:
        A dict from each id to the mean over n and over references, times 10.
    """
    frequency: collections.Counter[tuple[str, ...]] = collections.Counter()
    for every in references.values():
        frequency.update({gram for counted in every for grams in counted for gram in grams})
    pictures = math.log(len(references))
    weight = {gram: pictures - math.log(count) for gram, count in frequency.items()}
    scores = {}
    for name, grams in hypotheses.items():
        vector = _vector(grams, weight, pictures)
        total = math.fsum(
            _similarity(vector, _vector(other, weight, pictures)) for other in references[name]
        )
        scores[name] = _SCALE * total / ORDERS / len(references[name])
    return scores


_Vector = tuple[list[dict[tuple[str, ...], float]], list[float], int]


def _vector(counted: Counts, weight: Mapping[tuple[str, ...], float], rarest: float) -> _Vector:
    """Returns weighted counts for each n, their norms, and the number of bigrams."""
    vectors = [{g: c * weight.get(g, rarest) for g, c in grams.items()} for grams in counted]
    norms = [math.sqrt(sum(value**2 for value in grams.values())) for grams in vectors]
    return vectors, norms, counted[1].total()


def _similarity(own: _Vector, other: _Vector) -> float:
    """Returns the sum over n of clipped cosines, with the penalty on lengths."""
    total = 0.0
    for mine, its, norm, its_norm in zip(own[0], other[0], own[1], other[1], strict=True):
        product = sum(
            min(value, its[gram]) * its[gram] for gram, value in mine.items() if gram in its
        )
        if norm and its_norm:
            total += product / (norm * its_norm)
    return total * math.exp(-((own[2] - other[2]) ** 2) / (2 * _SIGMA**2))
