"""Chunk F1 against counts by hand, and against the rules stated tag by tag."""

import pathlib

import numpy as np
import pytest

from rcnn_jax.metrics.chunks import chunks, conlleval

TAGS = ["O", "B-a", "I-a", "B-b", "I-b", "B-a-x", "I-a-x", "B", "I"]


def split(tag):
    return (tag[0], tag[2:]) if tag[1:2] == "-" else (tag, "")


def begins(before, tag):
    (old, old_kind), (new, kind) = split(before), split(tag)
    return (old, new) in {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I")} or (
        new != "O" and kind != old_kind
    )


def ends(before, tag):
    (old, old_kind), (new, kind) = split(before), split(tag)
    return (old, new) in {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O")} or (
        old != "O" and kind != old_kind
    )


def by_rules(gold, predicted):
    """One pass over both at once, as the script of the shared task counts; no spans."""
    found = {name: {} for name in ("gold", "predicted", "correct")}

    def count(name, kind):
        found[name][kind] = found[name].get(kind, 0) + 1

    tokens = equal = 0
    for true, guess in zip(gold, predicted, strict=True):
        matching, last_true, last_guess = False, "O", "O"
        for a, b in [*zip(true, guess, strict=True), ("O", "O")]:
            if matching:
                both_end = ends(last_true, a), ends(last_guess, b)
                if all(both_end):
                    count("correct", split(last_true)[1])
                    matching = False
                elif any(both_end) or split(a)[1] != split(b)[1]:
                    matching = False
            starts = begins(last_true, a), begins(last_guess, b)
            if all(starts) and split(a)[1] == split(b)[1]:
                matching = True
            for name, start, tag in zip(("gold", "predicted"), starts, (a, b), strict=True):
                if start:
                    count(name, split(tag)[1])
            last_true, last_guess = a, b
        tokens += len(true)
        equal += sum(a == b for a, b in zip(true, guess, strict=True))

    def figures(own):
        precision = 100 * own["correct"] / own["predicted"] if own["predicted"] else 0
        recall = 100 * own["correct"] / own["gold"] if own["gold"] else 0
        both = precision + recall
        f1 = 2 * precision * recall / both if both else 0
        return {"precision": precision, "recall": recall, "f1": f1}

    def counts(kind):
        return {name: of.get(kind, 0) for name, of in found.items()}

    totals = {name: sum(of.values()) for name, of in found.items()}
    return {
        "accuracy": 100 * equal / tokens if tokens else 0,
        **figures(totals),
        "types": {
            kind: figures(counts(kind)) | counts(kind)
            for kind in sorted(found["gold"] | found["predicted"])
        },
    }


def random_sentences(rng, count, tags):
    """Predictions that agree with gold in two of three tags."""
    gold = [list(rng.choice(tags, rng.integers(0, 12))) for _ in range(count)]
    predicted = [[t if rng.random() < 0.67 else str(rng.choice(tags)) for t in s] for s in gold]
    return [[str(t) for t in s] for s in gold], predicted


@pytest.mark.parametrize("seed", range(20))
def test_random_sentences_against_the_rules(seed):
    """Any order of tags, so most sentences are ill formed."""
    gold, predicted = random_sentences(np.random.default_rng(seed), 50, TAGS)
    expected = by_rules(gold, predicted)
    assert min(own["correct"] for own in expected["types"].values()) > 0
    found = conlleval(gold, predicted)
    assert found == expected
    assert list(found["types"]) == list(expected["types"])


def test_random_sentences_against_seqeval():
    seqeval = pytest.importorskip("seqeval.metrics")
    for seed in range(10):
        gold, predicted = random_sentences(np.random.default_rng(seed), 50, TAGS[:7])
        found = conlleval(gold, predicted)
        for name, theirs in [
            ("precision", seqeval.precision_score),
            ("recall", seqeval.recall_score),
            ("f1", seqeval.f1_score),
            ("accuracy", seqeval.accuracy_score),
        ]:
            assert found[name] == pytest.approx(100 * theirs(gold, predicted), rel=1e-12)


# What the original conlleval.pl prints for conll2000_tags.txt (that of seqeval 1.2.2's tests):
# precision, recall, F1 and the number of predicted chunks.
BY_THE_ORIGINAL = {
    "ADJP": (0.00, 0.00, 0.00, 1),
    "ADVP": (45.45, 62.50, 52.63, 11),
    "NP": (64.98, 78.63, 71.16, 317),
    "PP": (83.18, 98.89, 90.36, 107),
    "SBAR": (66.67, 33.33, 44.44, 3),
    "VP": (69.00, 79.31, 73.80, 100),
}


def test_a_sample_of_conll_2000_against_the_original_script():
    """Tags of 961 words, gold and predicted lines in turn; the words are left out."""
    lines = (pathlib.Path(__file__).parent / "conll2000_tags.txt").read_text().splitlines()
    gold, predicted = ([line.split() for line in lines[first::2]] for first in (0, 1))
    assert sum(map(len, gold)) == 961
    found = conlleval(gold, predicted)
    totals = [round(found[name], 2) for name in ("accuracy", "precision", "recall", "f1")]
    assert totals == [84.08, 68.83, 80.83, 74.35]
    assert sum(own["gold"] for own in found["types"].values()) == 459
    assert sum(own["correct"] for own in found["types"].values()) == 371
    assert {
        kind: (*(round(own[n], 2) for n in ("precision", "recall", "f1")), own["predicted"])
        for kind, own in found["types"].items()
    } == BY_THE_ORIGINAL


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-a I-a O", [(1, 3, "a")]),
        ("B-a B-a I-a", [(0, 1, "a"), (1, 3, "a")]),
        ("I-a I-a O I-a", [(0, 2, "a"), (3, 4, "a")]),
        ("I-a B-a I-a", [(0, 1, "a"), (1, 3, "a")]),
        ("B-a I-b I-b", [(0, 1, "a"), (1, 3, "b")]),
        ("I-a I-b B-b", [(0, 1, "a"), (1, 2, "b"), (2, 3, "b")]),
        ("B-fromloc.city-name I-fromloc.city-name", [(0, 2, "fromloc.city-name")]),
        ("B I O I", [(0, 2, ""), (3, 4, "")]),
        ("B I-a", [(0, 1, ""), (1, 2, "a")]),
        ("B-0 I I-0 B-00 B-0-a", [(0, 3, ""), (3, 4, "00"), (4, 5, "0-a")]),
        ("O O", []),
        ("", []),
    ],
)
def test_chunks_of_one_sentence(tags, expected):
    assert chunks(tags.split()) == expected


def test_counted_by_hand():
    gold = [["B-a", "I-a", "O", "B-b"], ["B-a", "O", "B-a", "I-a"]]
    predicted = [["B-a", "I-a", "O", "B-a"], ["I-a", "B-b", "B-a", "O"]]
    # Right: (0, 2, a) and the a that is tagged I. Gold 4 chunks, predicted 5. Tags right: 4 of 8.
    found = conlleval(gold, predicted)
    assert found["accuracy"] == 50.0
    assert (found["precision"], found["recall"]) == (40.0, 50.0)
    assert found["f1"] == pytest.approx(400 / 9)
    assert found["types"] == {
        "a": {
            "precision": 50.0,
            "recall": pytest.approx(200 / 3),
            "f1": pytest.approx(400 / 7),
            "gold": 3,
            "predicted": 4,
            "correct": 2,
        },
        "b": {"precision": 0, "recall": 0, "f1": 0, "gold": 1, "predicted": 1, "correct": 0},
    }


def test_type_0_is_none_as_in_the_script():
    """In Perl, which the script is written in, the text 0 is false; 00 and 0.0 are not."""
    found = conlleval([["B-0", "I", "O", "B-1"]], [["B", "I-0", "O", "B-0"]])
    assert (found["accuracy"], found["precision"], found["recall"]) == (75, 50, 50)
    assert set(found["types"]) == {"", "1"}
    assert conlleval([["B-0"]], [["B-00"]])["f1"] == 0


def test_nothing_to_count():
    nothing = {"accuracy": 0, "precision": 0, "recall": 0, "f1": 0, "types": {}}
    assert conlleval([], []) == nothing
    assert conlleval([[]], [[]]) == nothing
    assert conlleval([["O"]], [["O"]]) == nothing | {"accuracy": 100}
    missed = conlleval([["B-a"]], [["O"]])
    assert (missed["f1"], missed["types"]["a"]["gold"]) == (0, 1)


def test_a_chunk_does_not_run_over_the_end_of_a_sentence():
    found = conlleval([["B-a"], ["I-a"]], [["B-a"], ["I-a"]])
    assert found["types"]["a"]["gold"] == 2


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([["O"]], [], "as many predicted sentences as gold ones are needed, got 0 and 1"),
        ([["O"], ["O", "O"]], [["O"], ["O"]], "sentence 1 has 2 gold tags and 1 predicted ones"),
        ([["S-a"]], [["O"]], "a tag must be .*, got 'S-a'"),
        ([["O"]], [["E-a"]], "a tag must be .*, got 'E-a'"),
        ([["O"]], [["O-a"]], "got 'O-a'"),
        ([["O"]], [[""]], "got ''"),
        ([["O"]], [["Ba"]], "got 'Ba'"),
    ],
)
def test_one_sentence_for_what_is_impossible(gold, predicted, message):
    with pytest.raises(ValueError, match=message):
        conlleval(gold, predicted)
