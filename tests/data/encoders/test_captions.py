"""Sentences about pictures as arrays: what is fitted, cut, unknown and told."""

import numpy as np
import pytest

from rcnn_jax.data import assets as assets_lib
from rcnn_jax.data.encoders.base import Encoder, Encoding, read_columns
from rcnn_jax.data.encoders.captions import Captions
from rcnn_jax.data.sources import ArraySource, Concatenation, View
from rcnn_jax.data.spec import Feature
from rcnn_jax.data.text.sentences import TEXT
from rcnn_jax.data.text.vocabulary import EOS, PAD, SPECIALS, UNK

TRAIN = [
    ("A dog runs.", "The dog's ball!"),
    ("A cat runs.",),
    ("a dog and a cat", "Cats sit", "a red dog runs on"),
]
TEST = [("A zebra runs.",), ("a dog runs on and on", "Ünicode 猫 runs")]


class Unread:
    """A column that must not be looked at."""

    def __len__(self):
        return len(TRAIN)

    def __getitem__(self, index):
        raise AssertionError("a picture was read for its text")


def stored(text):
    return np.frombuffer(text if isinstance(text, bytes) else text.encode(), np.uint8)


def pictures(captions, **columns):
    features = {"captions": TEXT, "file": TEXT, "image": Feature((2, 2, 3), "uint8")}
    features["objects"] = Feature((None,), "int32")
    number = len(captions)
    given = {
        "captions": [stored("\n".join(own)) for own in captions],
        "file": [stored("x" * i + ".png") for i in range(number)],
        "image": np.arange(number * 12, dtype=np.uint8).reshape(number, 2, 2, 3),
        "objects": [np.arange(i, dtype=np.int32) for i in range(number)],
    }
    return ArraySource(given | columns, features)


def bound_to(train, *others, **arguments):
    encoder = Captions(**{"min_count": 2, **arguments})
    return encoder.bind(encoder.fit(train), list(others))


def said(bound, ids):
    return " ".join(bound.for_task["words"][number] for number in ids)


def test_it_is_an_encoder():
    assert isinstance(Captions(), Encoder)
    assert Captions().for_model == {}
    bound = bound_to(pictures(TRAIN))
    assert isinstance(bound, Encoding)
    assert {*bound.for_model, *bound.for_task} == {*Captions.offers}


def test_vocabulary_of_the_training_split():
    bound = bound_to(pictures(TRAIN), pictures(TEST))
    # By falling frequency, then by name; `ball` and others occur once.
    known = ("<other>", *SPECIALS, "a", "dog", "runs", "cat")
    assert bound.vocabulary.tokens == known
    task = bound.for_task
    assert bound.for_model == {"classes": 7, "word_counts": task["word_counts"]}
    assert task["words"][:7] == known
    assert task["words"][7:] == (
        *("'s", "and", "ball", "cats", "on", "red", "sit", "the"),
        *("zebra", "ünicode", "猫"),
    )
    assert task["word_counts"] == (8, 0, 6, 5, 4, 3, 2)
    assert sum(task["word_counts"]) == 22 + 6  # words and ends
    assert task["training_captions"] == (
        "a dog runs", "the dog 's ball", "a cat runs", "a dog and a cat", "cats sit",
        "a red dog runs on",
    )  # fmt: skip


def test_arrays(capsys):
    train, test = pictures(TRAIN), pictures(TEST)
    bound = bound_to(train, test, most_steps=3)
    source = bound.wrap(test)
    batch = source.gather(np.array([1, 0]))
    assert {n: (rows.shape[1:], rows.dtype.name) for n, rows in batch.items()} == {
        n: (feature.shape, feature.dtype) for n, feature in source.features.items()
    }
    assert batch["captions"].tolist() == [
        [[3, 4, 5, EOS], [UNK, UNK, 5, EOS]],
        [[3, UNK, 5, EOS], [PAD] * 4],
    ]
    assert batch["caption_lengths"].tolist() == [[4, 4], [4, 0]]
    assert batch["reference_lengths"].tolist() == [[6, 3], [3, 0]]
    assert said(bound, batch["references"][0, 0]) == "a dog runs on and on"
    assert said(bound, batch["references"][0, 1, :3]) == "ünicode 猫 runs"
    assert batch["references"][1].tolist() == [
        [3, bound.words.encode(["zebra"])[0], 5, *[PAD] * 3],
        [PAD] * 6,
    ]
    assert [bytes(row).rstrip(b"\0") for row in batch["file"]] == [b"x.png", b".png"]
    np.testing.assert_array_equal(batch["image"], np.stack([test[1]["image"], test[0]["image"]]))
    assert "objects" not in batch
    message = (
        "captions: 3 sentences of 12 words, 8 different; outside the vocabulary are 50.00% of the "
        "words, 5 different; 1 sentences are cut, the longest has 6 words\n"
    )
    assert capsys.readouterr().err == message
    in_memory = source.in_memory()
    np.testing.assert_array_equal(in_memory.columns["references"][0], batch["references"][1])
    # What only the training split says is said again exactly, too.
    own = bound.wrap(train)
    every = [
        said(bound, row[:n])
        for i in range(3)
        for row, n in zip(own[i]["references"], own[i]["reference_lengths"], strict=True)
        if n
    ]
    assert tuple(every) == bound.training


def test_words_left_out():
    bound = bound_to(pictures(TRAIN), unknown="drop")
    first, _, last = (bound.wrap(pictures(TRAIN))[i] for i in range(3))
    assert first["captions"].tolist()[:2] == [
        [3, 4, 5, EOS, PAD, PAD],
        [4, EOS, PAD, PAD, PAD, PAD],
    ]
    # Nothing is left of "cats sit"; its row stands where the others' do.
    assert last["captions"].tolist()[1] == [EOS, *[PAD] * 5]
    assert last["caption_lengths"].tolist() == [5, 1, 4]
    assert last["reference_lengths"].tolist() == [5, 2, 5]


def test_most_sentences():
    bound = bound_to(pictures(TRAIN), most_sentences=1)
    assert bound.training == ("a dog runs", "a cat runs", "a dog and a cat")
    batch = bound.wrap(pictures(TRAIN)).gather(np.arange(3))
    assert batch["captions"].shape == (3, 1, 6)
    assert batch["reference_lengths"].tolist() == [[3], [3], [5]]


def test_tokenizers():
    sentence = "Der Hund's Ball , e\u0301 x"
    assert Captions().tokens(sentence) == ["der", "hund", "'s", "ball", "é", "x"]
    whitespace = Captions(tokenizer="whitespace")
    assert whitespace.tokens(sentence) == ["der", "hund's", "ball", ",", "é", "x"]
    kept = Captions(tokenizer="whitespace", lower=False)
    assert kept.tokens(sentence)[0] == "Der"
    for encoder in (Captions(), whitespace, kept):
        assert encoder.tokens("a <end> b <other>") == ["a", "end", "b", "other"]


def test_what_it_learnt_lies_in_the_workdir(tmp_path):
    train, test = pictures(TRAIN), pictures(TEST)
    encoder = Captions(min_count=1)
    assets_lib.save(tmp_path, encoder.fit(train))
    loaded = encoder.bind(assets_lib.load(tmp_path), [test])
    assert loaded.for_task == bound_to(train, test, min_count=1).for_task
    with pytest.raises(ValueError, match="needs the asset 'vocabulary'"):
        encoder.bind({}, [])


def test_no_picture_is_read_for_its_text():
    train = pictures(TRAIN, image=Unread())
    views = Concatenation((View(train, np.array([2, 0])), View(train, np.array([1]))))
    bound = bound_to(views, train)
    source = bound.wrap(views)
    assert bound.training[:3] == ("a dog and a cat", "cats sit", "a red dog runs on")
    names = [bytes(value["file"]) for value in read_columns(views, ("file",), "")]
    assert names == [b"xx.png", b".png", b"x.png"]
    with pytest.raises(AssertionError, match="a picture was read"):
        source[0]


def test_pictures_that_could_not_be_read_are_padding():
    captions = [TRAIN[0], ("",), TRAIN[2]]
    train = pictures(captions, mask=np.array([1, 0, 1], np.float32))
    bound = bound_to(train)
    batch = bound.wrap(train).gather(np.arange(3))
    assert batch["mask"].tolist() == [1, 0, 1]
    assert not batch["captions"][1].any()
    assert batch["caption_lengths"][:, 0].tolist() == [4, 0, 6]


def test_pictures_of_a_users_own_have_no_sentences():
    columns = pictures(TEST).columns
    unread = ArraySource({"image": columns["image"]})
    bound = bound_to(pictures(TRAIN), unread)
    source = bound.wrap(unread)
    assert set(source.features) == set(source[0]) == {"image"}


def test_vectors_of_a_size_that_the_data_set_does_not_state():
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    features = {"captions": TEXT, "features": Feature((None,), "float32")}
    columns = {"captions": [stored("a dog"), stored("a cat")], "features": vectors}
    source = bound_to(pictures(TRAIN)).wrap(ArraySource(columns, features))
    assert source.features["features"] == Feature((3,), "float32")
    np.testing.assert_array_equal(source.gather(np.array([1, 0]))["features"], vectors[::-1])


def test_coverage():
    bound = bound_to(pictures(TRAIN), most_steps=2)
    found = bound.coverage([["a", "dog"], ["a", "zebra", "zebra", "dog"], []])
    assert (found.sentences, found.tokens, found.types, found.longest) == (3, 6, 3, 4)
    assert (found.unknown_tokens, found.unknown_types, found.cut) == (2, 1, 1)
    assert found.unknown == pytest.approx(1 / 3)
    assert bound.coverage([]).unknown == 0


def test_what_is_refused():
    for arguments, message in (
        ({"tokenizer": "bert"}, "tokenizer is one of ptb, whitespace, got 'bert'"),
        ({"unknown": "keep"}, "unknown is one of other, drop, got 'keep'"),
        ({"min_count": 0}, "min_count must be at least 1, got 0"),
        ({"most_steps": 0}, "most_steps must be at least 1"),
        ({"most_sentences": -1}, "most_sentences must be at least 0"),
        ({"lower": False}, "lower=False needs 'whitespace'"),
    ):
        with pytest.raises(ValueError, match=message):
            Captions(**arguments)
    for captions, message in (
        ([("a dog",), ("a cat", " . ")], r"captions of example 1 .* without a word: ' \. '"),
        ([("a dog",), ()], "captions of example 1 of the split hold one without a word: ''"),
    ):
        with pytest.raises(ValueError, match=message):
            Captions(min_count=1).fit(pictures(captions))
    with pytest.raises(ValueError, match=r"example 0 of the split: byte 1 \(0xff\) of its text"):
        Captions().fit(ArraySource({"captions": [stored(b"a\xff")]}))
    with pytest.raises(ValueError, match="min_count=9 leaves no word of the 6 sentences"):
        Captions(min_count=9).fit(pictures(TRAIN))
    with pytest.raises(ValueError, match="have a feature 'captions', the data set has 'image'"):
        Captions().fit(ArraySource({"image": np.zeros((1, 2, 2, 3), np.uint8)}))
    # A split that was not named beforehand may have words that have no id.
    bound = bound_to(pictures(TRAIN))
    with pytest.raises(ValueError, match="'zebra' is not among the 15"):
        bound.wrap(pictures(TEST))
