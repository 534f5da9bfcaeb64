"""Sentences with tags as arrays: what is fitted where, what is padded, and what is refused."""

import numpy as np
import pytest

from rcnn_jax.data.encoders.base import Encoder, Encoding
from rcnn_jax.data.encoders.word_tags import ENCODINGS, WordTags
from rcnn_jax.data.sources import ArraySource
from rcnn_jax.data.text.sentences import to_bytes
from rcnn_jax.data.text.vocabulary import Vocabulary, letter_trigrams

TRAIN = [("leave taipei on may 7th", "O B-from O B-day I-day"), ("arrive taipei", "O B-to")]
TEST = [
    ("arrive oslo via taipei on may 9th", "O B-to O B-via O B-day I-day"),
    ("leave", "O"),
    ("on may 7th", "O B-day I-late"),
]


def source_of(pairs, **columns):
    sentences = {
        name: [to_bytes(pair[place].split()) for pair in pairs]
        for place, name in enumerate(("words", "tags"))
    }
    return ArraySource({**sentences, **columns}, {})


def encoded(pairs=TEST, assets=None, **arguments):
    encoder = WordTags(**arguments)
    encoding = encoder.bind(encoder.fit(source_of(TRAIN)) | (assets or {}), [source_of(TEST)])
    return encoding, encoding.wrap(source_of(pairs))


def test_words_and_tags_become_ids_and_padding():
    encoding, source = encoded(zero_digits=True, multiple=4)
    assert isinstance(WordTags(), Encoder)
    assert isinstance(encoding, Encoding)
    assert {*encoding.for_model, *encoding.for_task} == {*WordTags.offers}
    assert encoding.for_model == {"vocabulary": 7, "classes": 5, "encoding": "embedding"}
    # Those of the training split first, then, in alphabetical order, those of the other one.
    tags = ("O", "B-day", "B-from", "B-to", "I-day", "B-via", "I-late")
    assert encoding.for_task == {"tags": tags}
    batch = source.gather(np.array([2, 0]))
    assert {name: rows.shape[1:] for name, rows in batch.items()} == {
        name: feature.shape for name, feature in source.features.items()
    }
    assert batch["length"].tolist() == [3, 7]
    assert batch["words"].shape == batch["tags"].shape == (2, 8)
    tokens = ("<other>", "taipei", "0th", "arrive", "leave", "may", "on")
    assert encoding.vocabulary.tokens == tokens
    for row, (words, its_tags) in enumerate((TEST[2], TEST[0])):
        words = [w.replace("7", "0").replace("9", "0") for w in words.split()]
        length = len(words)
        found = [tokens[i] for i in batch["words"][row, :length]]
        assert found == [word if word in tokens else "<other>" for word in words]
        assert [tags[i] for i in batch["tags"][row, :length]] == its_tags.split()
        assert (batch["words"][row, length:] == -1).all()
        assert not batch["tags"][row, length:].any()
    again = source.in_memory().gather(np.array([2, 0]))
    for name, rows in batch.items():
        np.testing.assert_array_equal(again[name], rows)
        assert again[name].dtype == rows.dtype


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_way_to_read_words(encoding):
    """What is unknown has the id 0 where there is an entry for it, and none where there is not."""
    bound, source = encoded(encoding=encoding)
    words = source[0]["words"]
    if encoding == "trigrams":
        known = [letter_trigrams(word) for word in TEST[0][0].split()]
        known = [[t for t in found if t in bound.vocabulary] for found in known]
        assert words.shape == (7, max(map(len, known)))
        assert [sum(row >= 0) for row in words] == [len(found) for found in known]
        assert [bound.vocabulary.decode(row[row >= 0]) for row in words] == known
    else:
        unknown = 0 if encoding in ("one_hot_other", "embedding") else -1
        assert words[1] == words[2] == unknown
        assert bound.vocabulary.decode(words[[0, 3]]) == ["arrive", "taipei"]
    assert bound.for_model["encoding"] == encoding


def test_sentences_that_could_not_be_read_are_padding():
    mask = np.array([1, 0, 1], np.float32)
    broken = source_of([TEST[0], ("", ""), TEST[1]], mask=mask, intent=np.array([3, 0, 5]))
    broken = ArraySource(broken.columns, {k: v for k, v in broken.features.items() if k != "mask"})
    encoder = WordTags()
    source = encoder.bind(encoder.fit(broken), [broken]).wrap(broken)
    batch = source.gather(np.arange(3))
    np.testing.assert_array_equal(batch["mask"], mask)
    assert batch["length"].tolist() == [7, 0, 1]
    assert batch["intent"].tolist() == [3, 0, 5]
    assert not batch["words"][1].any()
    np.testing.assert_array_equal(source.in_memory().gather(np.arange(3))["mask"], mask)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"sentence 1 of the split has 1 tags for 2 words"):
        encoded([TRAIN[0], ("two words", "O")])
    with pytest.raises(ValueError, match="sentence 0 of the split is empty"):
        encoded([("", "")])
    with pytest.raises(ValueError, match="tag 'B-else' is not among the 7"):
        encoded([("leave", "B-else")])[1].gather(np.array([0]))
    with pytest.raises(ValueError, match=r"needs the asset 'tag_vocabulary'.* there are x"):
        WordTags().bind({"x": np.zeros(1)})
    with pytest.raises(ValueError, match="holds no vocabulary"):
        encoded(assets={"vocabulary": np.zeros(3, np.uint8)})
    with pytest.raises(ValueError, match="feature 'words', the data set has 'image'"):
        WordTags().fit(ArraySource({"image": np.zeros((2, 3))}))
    with pytest.raises(ValueError, match="min_count=9 leaves no word of the 2 sentences"):
        WordTags(encoding="one_hot", min_count=9).fit(source_of(TRAIN))
    with pytest.raises(ValueError, match=r"encoding is one of one_hot.*'bytes'"):
        WordTags(encoding="bytes")
    with pytest.raises(ValueError, match="multiple must be at least 1, got 0"):
        WordTags(multiple=0)
    with pytest.raises(IndexError, match="example 3 of a source with 3"):
        encoded()[1].gather(np.array([3]))


def test_the_vocabulary_is_that_of_the_training_split():
    encoder = WordTags(encoding="one_hot", min_count=2)
    found = Vocabulary.from_array(encoder.fit(source_of(TRAIN))["vocabulary"])
    assert found.tokens == ("taipei",)
