"""Made-up bookings: the same each time, hard for a table of words, and solvable from context."""

import hashlib
import re

import numpy as np
import pytest

from data.majority import majority_answers
from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.text import bookings
from rcnn_jax.data.text.sentences import to_words
from rcnn_jax.metrics.chunks import conlleval

NEW = {
    split: set(" ".join(v for kind in bookings.VALUES.values() for v in kind[split]).split())
    for split in bookings.SPLITS
}


@pytest.fixture(scope="module")
def sentences():
    """Split -> (words of each sentence, tags of each)."""
    name = "rcnn_jax.data.datasets.text.bookings:BOOKINGS"
    found = {}
    for split in bookings.SPLITS:
        source = catalog.open_source(name, split, residency="memory")
        examples = [source[i] for i in range(len(source))]
        found[split] = [[to_words(e[name]) for e in examples] for name in ("words", "tags")]
    return found


def by_the_words_that_tell(words):
    """Tags from context alone: which way a leg goes, and what a phrase looks like.

    No city, no month and no airline is known by name.
    """
    # A leg ends at a link; what follows the last leg starts at one of these.
    text = " ".join(words)
    body, end = re.fullmatch(r"(.*?)( (?:not )?with .*| please| for two people)?", text).groups()
    # The first `please` may open the sentence.
    tags, legs = [], re.split(rf"\b({'|'.join(bookings.LINKS)})\b", body)
    for leg in legs:
        ways = [way for way, forms in bookings.WAYS.items() if set(forms) & set(leg.split())]
        tags += tags_of_leg(leg.split(), *ways) if ways else ["O"] * len(leg.split())
    end = (end or "").split()
    airline = len(end) - end.index("with") - 1 if "with" in end else 0
    slot = "refused_airline" if "not" in end else "airline"
    tags += ["O"] * (len(end) - airline) + [f"B-{slot}", *[f"I-{slot}"] * (airline - 1)][:airline]
    return tags


def tags_of_leg(words, way):
    city, prefix = ("destination", "arrival") if way == "arrival" else ("departure", "departure")
    text = " ".join(words)
    kinds = [None] * len(words)

    def mark(pattern, slot):
        for match in re.finditer(pattern, text):
            start = text[: match.start("slot")].count(" ")
            for place in range(start, start + match["slot"].count(" ") + 1):
                kinds[place] = slot

    mark(r"\b(?P<slot>\w+ \d+(st|nd|rd|th))\b", f"{prefix}_date")
    mark(r"\b(?P<slot>\d+ (am|pm|oclock))\b", f"{prefix}_time")
    mark(r"\bin the (?P<slot>\w+)", f"{prefix}_time")
    forms = "|".join(bookings.WAYS[way])
    ends = r"(?= on \w+ \d| at \d| in the|$)"
    if " is " in text:
        openings = "|".join(sorted(filter(None, bookings._OPENINGS), key=len, reverse=True))
        mark(rf"^(?:{openings})?\s?(?P<slot>[a-z ]+) is (the|what)", city)
    else:
        mark(rf"\b({forms}) (?P<slot>[a-z ]+?){ends}", city)
    return [
        "O" if kind is None else f"{'I' if place and kinds[place - 1] == kind else 'B'}-{kind}"
        for place, kind in enumerate(kinds)
    ]


def test_they_are_the_same_everywhere_and_always(sentences):
    """A change of the sentences needs a new version of the data set, and then a new sum here."""
    text = repr(sentences)
    assert {split: len(words) for split, (words, _) in sentences.items()} == bookings.SPLITS
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "a33d89271d11e533"
    assert bookings.BOOKINGS.version == "1.0.0"
    other = bookings.bookings(seed=1, splits={"test": 5})
    words = [to_words(text) for text in other.columns(None, "test")["words"]]
    assert words != sentences["test"][0][:5]
    assert other.name != bookings.BOOKINGS.name


def test_the_majority_tag_of_a_word_is_not_enough(sentences):
    words, tags = sentences["test"]
    assert conlleval(tags, majority_answers(sentences["train"], words))["f1"] < 70


def test_context_is_enough(sentences):
    for words, tags in sentences.values():
        answers = [by_the_words_that_tell(sentence) for sentence in words]
        assert conlleval(tags, answers)["f1"] == 100


def test_test_has_new_values_and_new_arrangements_only(sentences):
    vocabulary = {w for words in sentences["train"][0] for w in words}
    for split in ("validation", "test"):
        words, tags = sentences[split]
        new = NEW[split] - NEW["train"]
        assert new.isdisjoint(vocabulary)
        filled = [
            any(word in new for word, tag in zip(s, t, strict=True) if tag != "O")
            for s, t in zip(words, tags, strict=True)
        ]
        assert 0.5 < np.mean(filled) < 1
        # Beside its new values a split says nothing that training does not.
        assert {w for sentence in words for w in sentence} - vocabulary <= NEW[split]
    assert NEW["validation"].isdisjoint(NEW["test"])
    shapes = {}
    for split, (words, tags) in sentences.items():
        shapes[split] = {
            tuple(w if t == "O" else t for w, t in zip(s, its, strict=True) if t[0] != "I")
            for s, its in zip(words, tags, strict=True)
        }
    assert shapes["train"].isdisjoint(shapes["test"])
    assert shapes["train"].isdisjoint(shapes["validation"])
    assert shapes["validation"].isdisjoint(shapes["test"])


def test_another_split():
    with pytest.raises(ValueError, match="train, validation, test, got holdout"):
        bookings.bookings(splits={"holdout": 3})
