"""Words and tags as numbers, and back."""

import json

import numpy as np
import pytest

from rcnn_jax.data import assets
from rcnn_jax.data.text.vocabulary import (
    PAD,
    UNK,
    TagVocabulary,
    Vocabulary,
    digits_as_zero,
    encode_trigrams,
    letter_trigrams,
    one_of_n,
)

SENTENCES = [s.split() for s in ("to rome to oslo", "from rome to 北京", "at noon", "from café")]


def test_order_is_frequency_then_alphabet_whatever_the_order_of_sentences():
    expected = ("<other>", "to", "from", "rome", "at", "café", "noon", "oslo", "北京")
    assert Vocabulary.fit(SENTENCES).tokens == expected
    assert Vocabulary.fit(SENTENCES[::-1]).tokens == expected


def test_one_of_n_with_and_without_a_class_for_others():
    other = Vocabulary.fit(SENTENCES, min_count=2)
    assert other.tokens == ("<other>", "to", "from", "rome")
    assert other.encode(["rome", "oslo", "to"]).tolist() == [3, UNK, 1]
    plain = Vocabulary.fit(SENTENCES, min_count=2, other=None)
    assert plain.tokens == ("to", "from", "rome")
    ids = plain.encode(["rome", "oslo", "to"])
    assert (ids.tolist(), ids.dtype) == ([2, PAD, 0], np.int32)
    np.testing.assert_array_equal(one_of_n(ids, 3), [[0, 0, 1], [0, 0, 0], [1, 0, 0]])
    assert "oslo" not in plain
    assert "rome" in plain


def test_special_tokens_come_first_and_are_not_repeated():
    vocabulary = Vocabulary.fit([["b", "<end>", "a", "b"]], specials=("<end>", "<start>"), most=1)
    assert vocabulary.tokens == ("<other>", "<end>", "<start>", "b")
    assert vocabulary.decode([3, 0, 1]) == ["b", "<other>", "<end>"]


def test_vocabularies_survive_a_folder_of_assets(tmp_path):
    """As arrays that need no unpickling, whatever characters the tokens have."""
    words = Vocabulary.fit([*SENTENCES, ["new\nline", '"quoted"', "\\"]], specials=("<end>",))
    plain = Vocabulary.fit(SENTENCES, other=None)
    tags = TagVocabulary.fit([["O", "B-stadt-größe"]])
    kept = {"words": words.to_array(), "plain": plain.to_array(), "tags": tags.to_array()}
    assets.save(tmp_path, kept)
    found = assets.load(tmp_path)
    assert Vocabulary.from_array(found["words"]) == words
    assert Vocabulary.from_array(found["plain"]) == plain
    assert TagVocabulary.from_array(found["tags"]) == tags


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[1]", b'{"tokens": 3, "other": true}', b'{"tags": ["O"]}']
)
def test_an_array_that_is_no_vocabulary(content):
    with pytest.raises(ValueError, match="holds no vocabulary: JSON with tokens, other"):
        Vocabulary.from_array(np.frombuffer(content, np.uint8))


def test_tags_of_other_splits_follow_and_are_counted():
    train = [["O", "B-to", "I-to"], ["B-from", "O"]]
    test = [["B-to", "I-from", "B-via"], ["I-from", "O", "B-via", "I-from"]]
    tags = TagVocabulary.fit(train)
    assert (tags.tags, tags.known) == (("O", "B-from", "B-to", "I-to"), 4)
    assert tags == TagVocabulary.fit(train[::-1])
    with pytest.raises(ValueError, match=r"tag 'I-from' is not among the 4 .* extend it"):
        tags.encode(test[0])
    more = tags.extended(test)
    assert more == tags.extended(test[::-1])
    assert (more.tags[4:], more.known) == (("B-via", "I-from"), 4)
    assert more.encode(test[0]).tolist() == [2, 5, 4]
    assert tags.unknown(test) == more.unknown(test) == {"B-via": 2, "I-from": 3}
    assert tags.unknown(train) == {}
    # What a workdir keeps does not depend on the split that was looked at last.
    np.testing.assert_array_equal(more.to_array(), tags.to_array())
    assert json.loads(tags.to_array().tobytes()) == {"tags": list(tags.tags)}


def test_a_tag_vocabulary_always_has_o():
    assert TagVocabulary.fit([["B-x"]]).tags == ("O", "B-x")


def test_digits_are_alike():
    assert digits_as_zero("dc10 9pm x-1203456789 ²") == "dc00 0pm x-0000000000 ²"


def test_letter_trigrams_are_those_of_the_paper():
    assert letter_trigrams("good") == ["#go", "goo", "ood", "od#"]
    assert letter_trigrams("a") == ["#a#"]


def test_trigram_lists_are_counts():
    trigrams = Vocabulary.fit([letter_trigrams(w) for w in ("banana", "ban")], other=None)
    words = ["banana", "bananas", "xyz", "ban"]
    ids = encode_trigrams(words, trigrams)
    assert (ids.shape, ids.dtype) == ((4, 6), np.int32)
    counts = one_of_n(ids, len(trigrams)).sum(axis=1)
    for word, row in zip(words, counts, strict=True):
        expected = [letter_trigrams(word).count(token) for token in trigrams.tokens]
        np.testing.assert_array_equal(row, expected)
    assert counts[0, trigrams.tokens.index("ana")] == 2
    assert not counts[2].any()
    wide = encode_trigrams(words, trigrams, places=9)
    np.testing.assert_array_equal(wide[:, :6], ids)
    assert (wide[:, 6:] == PAD).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Vocabulary(("a", "b", "a")), "'a' twice"),
        (lambda: Vocabulary(()), "at least that one"),
        (lambda: Vocabulary.fit([["a"]], min_count=0), "min_count=0"),
        (lambda: Vocabulary.fit([["a"]], most=0), "most=0"),
        (lambda: Vocabulary.fit([["a"]], specials=("x", "x")), "'x' twice"),
        (lambda: Vocabulary.fit([["a"]]).decode([2]), r"0\.\.1, got 2"),
        (lambda: Vocabulary.fit([["a"]]).decode([-1]), r"0\.\.1, got -1"),
        (lambda: TagVocabulary(("O", "O"), 1), "2 tags, 1 different"),
        (lambda: TagVocabulary(("O",), 2), "2 known"),
        (lambda: encode_trigrams(["cat"], Vocabulary.fit([["#ca"]])), "other=None"),
        (
            lambda: encode_trigrams(["cat"], Vocabulary(("#ca", "at#"), other=False), places=1),
            "'cat' has more than places=1",
        ),
        (lambda: one_of_n(np.array([3]), 3), "below size=3, got 3"),
    ],
)
def test_what_is_impossible(call, message):
    with pytest.raises(ValueError, match=message):
        call()
