"""Sentences and questions about shapes: true, read back, and answered by other code."""

import collections
import re

import numpy as np
import pytest

from data.datasets.shapes import shapes_neighbours
from rcnn_jax.data.datasets.shapes import dataset, language
from rcnn_jax.data.datasets.shapes.captions import CAPTIONS, MOST_WORDS
from rcnn_jax.data.datasets.shapes.language import NUMBERS, RELATIONS, Facts, Phrase, facts, plural
from rcnn_jax.data.datasets.shapes.questions import ANSWERS
from rcnn_jax.data.datasets.shapes.scene_truth import Truth, truth
from rcnn_jax.data.datasets.shapes.world import COLOURS, SHAPES, SIZES

OPPOSITE = {"left": "right", "above": "below", "front": "behind"}
OPPOSITE |= {other: one for one, other in OPPOSITE.items()}
WORDS = {
    name: (column, names) for column, names in enumerate((SHAPES, COLOURS, SIZES)) for name in names
}
SINGULAR = {plural(name): name for name in (*SHAPES, "shape")}


@pytest.fixture(scope="module")
def examples():
    return [dataset.example(0, split, i) for split in dataset.SPLITS for i in range(400)]


@pytest.fixture(scope="module")
def said(examples):
    """Sentences, the tables of their scenes and their mentions."""
    return [
        (sentence, example["objects"], mentions)
        for example in examples
        for sentence, mentions in zip(lines(example), example["mentions"], strict=True)
    ]


def lines(example):
    return example["captions"].tobytes().decode().split("\n")


def fits(row, words):
    """Whether the colours, sizes and shapes among some words are those of an object."""
    words = [SINGULAR.get(word, word) for word in words]
    return all(WORDS[w][1][row[WORDS[w][0]]] == w for w in words if w in WORDS)


def named(table):
    """For each object its words, such as ("star", "red", "small")."""
    return [(SHAPES[r[0]], COLOURS[r[1]], SIZES[r[2]]) for r in table if r[0] >= 0]


def test_every_sentence_is_true(said, examples):
    assert len(said) == CAPTIONS * len(examples) == 6000
    for sentence, table, _ in said:
        assert truth(sentence, table) == Truth(True, True, True, True, True), sentence
        assert len(sentence.split()) <= MOST_WORDS
    assert all(len(set(lines(example))) == CAPTIONS for example in examples)


def test_sentences_vary(said):
    texts = [sentence for sentence, _, _ in said]
    assert len(set(texts)) > 0.9 * len(texts)
    for phrase in (
        *(way for ways in RELATIONS.values() for way in ways), *language.SINGULAR_OPENINGS,
        *language.PLURAL_OPENINGS, "of the", "shapes are", "is a", "is an", "is red", "is small",
        "and", "with", *SHAPES, *COLOURS, *SIZES, *(plural(shape) for shape in SHAPES),
        *NUMBERS[1:],
    ):  # fmt: skip
        assert any(f" {phrase} " in f" {text} " for text in texts), phrase
    # Objects to a sentence: one, two, three and more are all common.
    numbers = collections.Counter(min(4, len(facts(text).phrases)) for text in texts)
    assert set(numbers) == {1, 2, 3}
    assert min(numbers.values()) > 0.15 * len(texts)
    kinds = collections.Counter(r[1] for text in texts for r in facts(text).relations)
    assert min(kinds[kind] for kind in RELATIONS) > 0.04 * len(texts)


def test_mentions_are_the_words_for_an_object(said):
    for sentence, table, mentions in said:
        words = sentence.split()
        spans = mentions[mentions[:, 0] >= 0]
        assert (mentions[len(spans) :] == -1).all()
        claimed = facts(sentence)
        assert {(p.first, p.last) for p in claimed.phrases} == {(a, b) for a, b, _ in spans}
        for first, last, place in spans:
            assert table[place, 0] >= 0
            assert fits(table[place], words[first : last + 1]), sentence
        for phrase in claimed.phrases:
            own = {c for a, b, c in spans if (a, b) == (phrase.first, phrase.last)}
            assert len(own) == (phrase.number or 1)
        # Words for colours, sizes and shapes outside of spans are what is said of the object.
        covered = {i for a, b, _ in spans for i in range(a, b + 1)}
        outside = [i for i, word in enumerate(words) if word in WORDS and i not in covered]
        assert len(outside) <= len(claimed.qualities) or "of the" in sentence or "are" in words


def test_mentioned_objects_lie_as_is_said(said):
    """Seen from the mentions: the very objects that the words were made for."""
    ahead = {
        "left": lambda a, b: b[4] - a[4],
        "right": lambda a, b: a[4] - b[4],
        "above": lambda a, b: b[3] - a[3],
        "below": lambda a, b: a[3] - b[3],
    }
    checked = 0
    for sentence, table, mentions in said:
        for one, kind, other in facts(sentence).relations:
            a, b = (int(mentions[place, 2]) for place in (one, other))
            if kind in ahead:
                assert ahead[kind](table[a], table[b]) >= 8, sentence
            else:
                front, back = (a, b) if kind == "front" else (b, a)
                assert table[front, 5] == back, sentence
            checked += 1
    assert checked > 1500


def test_a_false_colour_shape_number_or_relation_is_found_out(said):
    tried = collections.Counter()
    for number, (sentence, table, _) in enumerate(said):
        words = sentence.split()
        there = {word for own in named(table) for word in own}
        absent = {
            "colour": [own for own in COLOURS if own not in there],
            "shape": [own for own in SHAPES if own not in there],
        }
        for at, word in enumerate(words):
            kind = "colour" if word in COLOURS else "shape" if word in SHAPES else None
            if kind and absent[kind]:
                new = absent[kind][number % len(absent[kind])]
                mutant = changed(words, at, new)
                found = truth(mutant, table)
                assert found.grammatical, mutant
                assert not found.all_true, (mutant, sentence)
                # What is wrong is named: an absent shape, or else the colour.
                wrong = found.colours_true if kind == "colour" else found.objects_true
                assert not wrong, (mutant, sentence)
                tried[kind] += 1
            if word in NUMBERS[2:]:
                value = NUMBERS.index(word)
                # A number is exact: any other one is wrong.
                new = NUMBERS[value + 1 if value < 6 else 5]
                assert not truth(changed(words, at, new), table).all_true, sentence
                tried["number"] += 1
        claimed = facts(sentence)
        for one, kind, other in claimed.relations:
            if not (claimed.phrases[one].definite and claimed.phrases[other].definite):
                continue  # "a" may be another one, of which it is true
            way = next(
                w for w in sorted(RELATIONS[kind], key=len)[::-1] if f" {w} " in f" {sentence} "
            )
            mutant = sentence.replace(way, RELATIONS[OPPOSITE[kind]][0], 1)
            found = truth(mutant, table)
            if len(claimed.relations) == 1:
                expected = Truth(True, True, True, False, False)
                assert found == expected, (mutant, sentence)
                tried["relation"] += 1
    assert min(tried[kind] for kind in ("colour", "shape", "number", "relation")) > 150, tried


def changed(words, at, new):
    """Words with another one at a place, and the article before it put right."""
    words = [*words[:at], new, *words[at + 1 :]]
    if at and words[at - 1] in ("a", "an"):
        words[at - 1] = "an" if new[0] in "aeiou" else "a"
    return " ".join(words)


#                shape, colour, size, row, column, hides
SCENE = [
    ("circle", "red", "small", 10, 10, -1),
    ("circle", "red", "large", 30, 50, -1),
    ("star", "blue", "small", 34, 14, -1),
    ("star", "green", "large", 40, 44, 1),
    ("ring", "white", "small", 56, 13, -1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        # grammatical, objects, colours, relations
        ("a red circle", "ttt"),
        ("a blue circle", "tft"),
        ("a small square", "ftt"),
        ("a red circle and a small red circle", "ttt"),
        ("a red circle with a red circle and a red circle", "fft"),
        ("a circle with a circle and a ring", "ttt"),
        ("a ring and a ring", "ftt"),
        ("the circle is red", "fft"),
        ("the small circle is red", "ttt"),
        ("the small circle is blue", "tft"),
        ("the blue shape is a star", "ttt"),
        ("the blue shape is a ring", "tft"),
        ("the ring is white and the blue star is large", "tft"),
        ("two circles", "ttt"),
        ("two red circles and a ring", "ttt"),
        ("there are three stars", "ftt"),
        ("there are two green stars", "tft"),
        ("the picture shows five shapes", "ttt"),
        ("i see four shapes", "ftt"),
        ("two shapes are red", "ttt"),
        ("three shapes are red", "tft"),
        ("two of the five shapes are stars", "ttt"),
        ("two of the six shapes are stars", "ftt"),
        ("one of the five shapes is white", "ttt"),
        ("one of the five shapes is a star", "ftt"),
        ("the ring is below the blue star", "ttt"),
        ("the ring is left of the blue star", "ttf"),  # by one pixel, which is none
        ("the ring is above the blue star", "ttf"),
        ("the white star is above the ring", "tff"),
        ("the green star is in front of the large circle", "ttt"),
        ("the green star is behind the large circle", "ttf"),
        ("a red circle behind a star", "ttt"),
        ("a red circle behind a blue star", "ttf"),
        ("above a ring there is a blue star", "ttt"),
        ("to the right of a green star is a circle", "ttt"),
        ("the green star below the large circle and to the right of a ring", "ttt"),
        ("the green star below the large circle and left of a ring", "ttf"),
        ("the green star is the green star", None),
        ("a star right of the blue star and left of the large red circle", "ttt"),
    ],
)
def test_truth_by_hand(sentence, expected):
    table = np.full((6, 6), -1, np.int32)
    for row, (shape, colour, size, *rest) in zip(table, SCENE, strict=False):
        row[:] = SHAPES.index(shape), COLOURS.index(colour), SIZES.index(size), *rest
    claims = [letter == "t" for letter in expected or "fff"]
    assert truth(sentence, table) == Truth(expected is not None, *claims, all(claims))


@pytest.mark.parametrize(
    "sentence",
    [
        "", "red", "a", "a red", "red circle", "a circle red", "a red circle .", "an red circle",
        "a orange star", "two circle", "a circles", "one circle", "seven circles", "a red red star",
        "there is two circles", "there are a circle", "there is there is a circle",
        "a star and", "a star and a star and a ring and a moon", "a star left a ring",
        "a star left of", "left of a star", "left of a star is", "left of a star is two rings",
        "two stars left of a ring", "a star left of two rings", "two stars is left of a ring",
        "the star is", "the star is red and", "the star is red and the ring", "the star is a",
        "the star is red and the ring is blue and the moon is small", "the stars is red",
        "two shapes are", "two shapes are small", "two shapes is red", "two shapes are star",
        "one of the shapes is red", "one of the two shapes are red", "one shapes is red",
        "two of the one shapes are red", "a star left of a ring and", "a <other> circle",
        "a star left of a ring and above a moon and below a heart", "a small red",
    ],
)  # fmt: skip
def test_what_is_no_sentence(sentence):
    assert facts(sentence) is None
    assert truth(sentence, np.zeros((1, 6), np.int32)) == Truth(*[False] * 5)


def test_what_a_sentence_claims():
    assert facts("there is a small star to the left of the ring and above a red moon") == Facts(
        (
            Phrase("star", None, "small", None, False, 2, 4),
            Phrase("ring", None, None, None, True, 9, 10),
            Phrase("moon", "red", None, None, False, 13, 15),
        ),
        relations=((0, "left", 1), (0, "above", 2)),
    )
    assert facts("partly covered by the ring there is a moon") == Facts(
        (
            Phrase("ring", None, None, None, True, 3, 4),
            Phrase("moon", None, None, None, False, 7, 8),
        ),
        relations=((1, "behind", 0),),
    )
    assert facts("three of the five shapes are crosses").total == 5
    with pytest.raises(ValueError, match=r"\[objects, 6\], got \[6, 5\]"):
        truth("a star", np.zeros((6, 5), np.int32))


def fitting(table, words):
    return [place for place, row in enumerate(table) if row[0] >= 0 and fits(row, words)]


def only(table, words):
    found = fitting(table, words)
    assert len(found) == 1, words
    return found[0]


def lying(table, way, place):
    """The objects that somebody may say lie so, seen from one of them."""
    kind = next(kind for kind, ways in RELATIONS.items() if way in ways)
    rows = [i for i, row in enumerate(table) if row[0] >= 0 and i != place]
    if kind in ("front", "behind"):
        front = kind == "front"
        return [i for i in rows if (table[i, 5] == place if front else table[place, 5] == i)]
    column, sign = {"left": (4, -1), "right": (4, 1), "above": (3, -1), "below": (3, 1)}[kind]
    return [i for i in rows if sign * (table[i, column] - table[place, column]) > 0]


WAY = "|".join(sorted((way for ways in RELATIONS.values() for way in ways), key=len)[::-1])


def answer_to(question, table):
    """The answer, found by taking the question apart with patterns."""
    if match := re.fullmatch("how many (.*) are there", question):
        return NUMBERS[len(fitting(table, match[1].split()))]
    if match := re.fullmatch("is there an? (.*)", question):
        return "yes" if fitting(table, match[1].split()) else "no"
    if match := re.fullmatch("is the (.*) small or large", question):
        return SIZES[table[only(table, match[1].split()), 2]]
    if match := re.fullmatch(f"what (is|colour is the shape) ({WAY}) the (.*)", question):
        found = lying(table, match[2], only(table, match[3].split()))
        assert len(found) == 1, question
        shape, colour, _ = named(table)[found[0]]
        return shape if match[1] == "is" else colour
    if match := re.fullmatch(f"is the (.*?) ({WAY}) the (.*)", question):
        one, other = (only(table, words.split()) for words in match.group(1, 3))
        return "yes" if one in lying(table, match[2], other) else "no"
    match = re.fullmatch("what (is|colour is) the (.*)", question)
    shape, colour, _ = named(table)[only(table, match[2].split())]
    return shape if match[1] == "is" else colour


def test_questions_have_the_answer_that_other_code_finds(examples):
    kinds, answers = collections.Counter(), collections.Counter()
    for example in examples:
        question, answer = (example[name].tobytes().decode() for name in ("question", "answer"))
        assert answer_to(question, example["objects"]) == answer, question
        assert answer in ANSWERS
        answers[answer] += 1
        if answer in ("yes", "no"):
            kinds["is there" if question.startswith("is there") else "lies", answer] += 1
    for kind in ("is there", "lies"):
        yes, no = kinds[kind, "yes"], kinds[kind, "no"]
        assert yes + no > 60
        assert abs(yes - no) < 4 * (yes + no) ** 0.5 / 2 + 0.05 * (yes + no)
    assert set(answers) == set(ANSWERS)


def test_neither_neighbours_nor_questions_alone_give_the_answers():
    """With few scenes; `shapes_neighbours` says what was measured with more."""
    parts = [
        shapes_neighbours.read(split, number) for split, number in (("train", 800), ("test", 150))
    ]
    for features in (shapes_neighbours.blurred, shapes_neighbours.histograms):
        assert shapes_neighbours.repeated(*parts, features) < 5
        # A picture's own sentences are repeated by its nearest neighbour, which it is itself.
        own = tuple(part[:50] for part in parts[0][:2])
        assert shapes_neighbours.repeated(parts[0], own, features) == 100
    assert 10 < shapes_neighbours.guessed(*parts) < 40
