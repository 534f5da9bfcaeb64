"""Lines with text as arrays: what is fitted where, what is padded, and what is told or refused."""

import unicodedata

import numpy as np
import pytest

from rcnn_jax.data import assets as assets_lib
from rcnn_jax.data.encoders.base import Encoder, Encoding, SizedEncoding
from rcnn_jax.data.encoders.transcripts import Transcripts
from rcnn_jax.data.sources import ArraySource, View
from rcnn_jax.data.spec import Feature
from rcnn_jax.data.text.alphabet import Alphabet

RNG = np.random.default_rng(0)
SHAPES = [(6, 9), (6, 4), (4, 8), (8, 10)]
TRAIN = ["a b", "ba", "aab", "b"]
TEST = ["ab", "xb?a", "b", "a"]
TEXT = Feature((None,), "uint8")


def stored(text):
    return np.frombuffer(text if isinstance(text, bytes) else text.encode(), np.uint8)


def pictures(texts, shapes=SHAPES, **columns):
    images = [RNG.integers(1, 256, (*s, 1)).astype(np.uint8) for s in shapes[: len(texts)]]
    features = {"image": Feature((None, None, 1), "uint8"), "text": TEXT}
    features |= {n: TEXT if n == "file" else Feature((), "int64") for n in columns if n != "mask"}
    return ArraySource({"image": images, "text": [stored(t) for t in texts], **columns}, features)


def recordings(texts, bins=3):
    frames = [RNG.normal(5, 2, (4 + i, bins)).astype(np.float32) for i in range(len(texts))]
    features = {"frames": Feature((None, bins), "float32"), "text": TEXT}
    return ArraySource({"frames": frames, "text": [stored(t) for t in texts]}, features)


def encoded(train, test, **arguments):
    encoder = Transcripts(**arguments)
    bound = encoder.bind(encoder.fit(train), [test])
    return bound, bound.wrap(test)


@pytest.mark.parametrize("make", [pictures, recordings])
def test_lines_can_be_padded_in_groups(make):
    """Each has the extent that it is encoded with, and what it holds does not depend on padding."""
    source = make(TRAIN)
    encoder = Transcripts(multiple=4)
    bound = encoder.bind(encoder.fit(source))
    assert isinstance(bound, SizedEncoding)
    assert bound.multiple == 4
    whole = bound.wrap(source)
    kind = "image" if make is pictures else "frames"
    axis = 1 if kind == "image" else 0
    extents = bound.extents(source)
    assert extents.dtype == np.int64
    assert extents.tolist() == [int(whole[i]["length"]) for i in range(4)]
    for rows, longest in (([0], 0), ([0], 17), ([1, 3], 4), ([2], 99)):
        group = bound.wrap(View(source, np.array(rows)), longest)
        expected = max(longest, int(extents[rows].max()))
        assert group.features[kind].shape[axis] == -(-expected // 4) * 4
        for place, row in enumerate(rows):
            alone = np.moveaxis(group[place][kind], axis, 0)
            among = np.moveaxis(whole[row][kind], axis, 0)
            length = int(extents[row])
            np.testing.assert_array_equal(alone[:length], among[:length])
            assert not alone[length:].any()


def test_what_is_strange_is_said_once_of_all_groups(capsys):
    source = pictures(TEST)
    encoder = Transcripts(unknown_in_training="drop")
    bound = encoder.bind(encoder.fit(pictures(TRAIN)), [source])
    for wrap in (bound.extents, bound.wrap):
        wrap(source)
        assert capsys.readouterr().err.count("2 in all; they count as errors") == 1
    for rows in ([0], [1, 2], [3]):
        bound.wrap(View(source, np.array(rows)), 1)
    assert capsys.readouterr().err == ""


def test_pictures_become_one_shape_and_text_ids(capsys):
    train, test = pictures(TRAIN), pictures(TEST, row=np.arange(4))
    bound, source = encoded(train, test, multiple=8)
    assert isinstance(Transcripts(), Encoder)
    assert isinstance(bound, Encoding)
    assert {*bound.for_model, *bound.for_task} == {*Transcripts.offers}
    assert Transcripts().for_model == {}
    assert bound.for_model == {"classes": 4}
    assert bound.for_task == {"alphabet": (" ", "a", "b"), "visual_order": None}
    batch = source.gather(np.array([3, 0, 2, 1]))
    assert {n: rows.shape[1:] for n, rows in batch.items()} == {
        n: feature.shape for n, feature in source.features.items()
    }
    assert {n: rows.dtype.name for n, rows in batch.items()} == {
        n: feature.dtype for n, feature in source.features.items()
    }
    # The training split's highest line has 8 rows: 6x9 becomes 8x12, 4x8 8x16; 8x10 stays.
    assert batch["image"].shape == (4, 8, 16, 1)
    assert batch["length"].tolist() == [10, 12, 16, 5]
    np.testing.assert_array_equal(batch["image"][0, :, :10], test[3]["image"])
    for image, length in zip(batch["image"], batch["length"], strict=True):
        assert image[:, :length].all()
        assert not image[:, length:].any()
    # `x` and `?` have the id behind the last, which is no class of the model.
    assert batch["labels"].tolist() == [[2, 0, 0, 0], [2, 3, 0, 0], [3, 0, 0, 0], [4, 3, 4, 2]]
    assert batch["label_length"].tolist() == [1, 2, 1, 4]
    assert batch["row"].tolist() == [3, 0, 2, 1]
    told = capsys.readouterr().err
    assert "2 in all; they count as errors;" in told
    assert "the first is 'x' (U+0078) at position 0 of line 1 of the split" in told
    again = source.in_memory().gather(np.array([3, 0, 2, 1]))
    for name, rows in batch.items():
        np.testing.assert_array_equal(again[name], rows)
    # The split that was trained on tells of nothing, and is as wide as its own lines.
    own = bound.wrap(train)
    assert own.features["image"].shape == (8, 16, 1)
    assert not capsys.readouterr().err


def test_pictures_keep_their_size_where_that_is_asked():
    test = pictures(TEST[:1] + TEST[2:], [(3, 5), (6, 7), (12, 10)])
    _, source = encoded(pictures(TRAIN), test, height=6, scale=False)
    assert source.features["image"].shape == (6, 7, 1)
    rows = source.gather(np.arange(3))
    assert rows["length"].tolist() == [5, 7, 5]
    np.testing.assert_array_equal(rows["image"][0, 1:4, :5], test[0]["image"])
    assert not rows["image"][0, [0, 4, 5]].any()
    np.testing.assert_array_equal(rows["image"][1], test[1]["image"])
    assert rows["image"][2, :, :5].all()


def test_frames_are_standardised_by_the_training_split():
    train, test = recordings(TRAIN), recordings(TEST[2:])
    train.columns["frames"][0][:, 2] = train.columns["frames"][1][:, 2] = 0
    for frames in train.columns["frames"]:
        frames[:, 2] = 7  # a bin that never changes
    bound, source = encoded(train, test)
    every = np.concatenate(train.columns["frames"])
    mean, deviation = every.mean(0), every.std(0)
    deviation[2] = 1
    batch = source.gather(np.array([0, 1]))
    assert batch["frames"].shape == (2, 5, 3)
    assert batch["length"].tolist() == [4, 5]
    assert not batch["frames"][0, 4:].any()
    expected = (test[0]["frames"] - mean) / deviation
    np.testing.assert_allclose(batch["frames"][0, :4], expected, rtol=1e-4, atol=1e-5)
    own = bound.wrap(train).gather(np.arange(4))
    real = np.arange(7)[None] < own["length"][:, None]
    np.testing.assert_allclose(own["frames"][real].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(own["frames"][real].std(0), [1, 1, 0], atol=1e-4)
    raw = encoded(train, test, standardize=False)[1][0]
    np.testing.assert_array_equal(raw["frames"][:4], test[0]["frames"])


def test_two_ways_to_write_an_accent():
    composed, apart = "é", unicodedata.normalize("NFD", "é")
    for normalization, count in (("NFC", 2), ("NFKC", 1), ("none", 4)):
        encoder = Transcripts(normalization=normalization)
        train = pictures([composed + "ﬁ", apart] if count != 1 else [composed, apart])
        assert len(encoder.bind(encoder.fit(train)).alphabet) == count
    assert Transcripts(normalization="NFKC").fit(pictures(["ﬁ"]))["alphabet"].tolist() == [
        ord("f"), ord("i"),
    ]  # fmt: skip


def test_characters_outside_the_alphabet(capsys):
    train = pictures(["ab", "cab"], file=[stored("one.png"), stored("list.tsv:2")])
    message = (
        r"'c' \(U\+0063\) at position 0 of list.tsv:2 \(line 1 of the split\) is not in the "
        "alphabet of 2"
    )
    with pytest.raises(ValueError, match=message):
        Transcripts(alphabet="ba").fit(train)
    with pytest.raises(ValueError, match=message):
        Transcripts(min_count=2).fit(train)
    encoder = Transcripts(alphabet="ba", unknown_in_training="drop")
    bound = encoder.bind(encoder.fit(train), [train])
    assert bound.for_task == {"alphabet": ("b", "a"), "visual_order": None}
    # As a split that is evaluated it keeps what the one that is trained on drops.
    assert bound.wrap(train)[1]["labels"].tolist() == [3, 2, 1]
    training = pictures(["ab", "cab"])
    assert bound.wrap(training)[1]["labels"].tolist() == [2, 1]
    assert "1 in all; they are left out" in capsys.readouterr().err
    assert bound.wrap(training)[1]["label_length"] == 2
    with pytest.raises(ValueError, match=r"'z' \(U\+007A\) at position 1 of line 0"):
        encoded(training, pictures(["az"]), unknown="error")


def test_what_it_learnt_lies_in_the_workdir(tmp_path):
    encoder, train = Transcripts(), pictures(["ab", "ü \U0001d11e"])
    assets_lib.save(tmp_path, encoder.fit(train))
    bound = encoder.bind(assets_lib.load(tmp_path), [])
    assert bound.for_task == {"alphabet": (" ", "a", "b", "ü", "\U0001d11e"), "visual_order": None}
    assert bound.wrap(train)[1]["labels"].tolist() == [4, 1, 5]


HEBREW = ["שלום (12)", "אבג abc 5", "ab", "נָא\u200f"]
SEEN = ["(12) םולש", "abc 5 גבא", "ab", "אנָ"]


def labels(source, alphabet):
    batch = source.gather(np.arange(len(source)))
    rows = zip(batch["labels"], batch["label_length"], strict=True)
    return ["".join(alphabet[i - 1] for i in row[:count]) for row, count in rows]


def test_texts_from_right_to_left_are_labelled_as_pictures_show_them(capsys, tmp_path):
    train = pictures(HEBREW)
    assets = Transcripts().fit(train)
    told = capsys.readouterr().err
    assert told.startswith("transcripts: 3 of 4 texts have characters from right to left;")
    assert told.endswith(" 0 of these 3 change\n")
    # As a workdir keeps it, and for a split that is evaluated.
    assets_lib.save(tmp_path, assets)
    bound = Transcripts().bind(assets_lib.load(tmp_path), [train])
    alphabet = bound.for_task["alphabet"]
    assert alphabet == tuple(sorted(set("".join(SEEN))))
    assert labels(bound.wrap(train), alphabet) == SEEN
    order = bound.for_task["visual_order"]
    assert [order.logical(text) for text in SEEN] == [*HEBREW[:3], "נָא"]
    # The alphabet has characters in the shape that is seen.
    with pytest.raises(ValueError, match=r"'\(' .* at position 0 from the left of line 0"):
        Transcripts(alphabet=")אב").fit(pictures(["אב)"]))
    assert not capsys.readouterr().err.count("warning")


def test_texts_keep_their_order_where_nothing_is_seen_from_right_to_left(capsys):
    for source, arguments in (
        (recordings(HEBREW), {}),
        (recordings(HEBREW), {"order": "logical"}),
        (pictures(HEBREW), {"order": "logical"}),
    ):
        bound, wrapped = encoded(source, source, **arguments)
        assert labels(wrapped, bound.for_task["alphabet"]) == HEBREW
        assert bound.for_task["visual_order"] is None
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match="order='visual' is for pictures; recordings have"):
        Transcripts(order="visual").fit(recordings(HEBREW))
    for base, seen in (("auto", ".בא"), ("L", "בא."), ("R", ".בא"), ("line", ".בא")):
        train = pictures(["אב."])
        bound, wrapped = encoded(train, train, order="visual", base_direction=base)
        assert labels(wrapped, bound.for_task["alphabet"]) == [seen]
    # Text without such characters has no order to be kept.
    assert set(Transcripts().fit(pictures(TRAIN))) == {"alphabet", "line_height"}


def test_texts_that_do_not_come_back_are_counted(capsys):
    train = pictures(["אב 5 gb", "אב gb 5", "גד gb 7"])
    bound, _ = encoded(train, train)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "in which 1 of these 3 change, such as 'אב 5 gb', which becomes 'אב gb 5'" in told[0]
    assert told[1].startswith("warning: 1 of 3 texts of a split with characters from right to left")
    assert told[1].endswith("as they come back, such as 'אב 5 gb', which becomes 'אב gb 5'")
    bound.wrap(pictures(["אב 5 gb"]))
    assert not capsys.readouterr().err


def test_a_run_from_before_there_was_an_order_keeps_that_of_its_files(capsys):
    train = pictures(HEBREW)
    assets = Transcripts(order="logical").fit(train)
    del assets["text_order"]
    for _ in range(2):
        bound = Transcripts().bind(assets, [train])
        assert labels(bound.wrap(train), bound.for_task["alphabet"]) == HEBREW
    told = capsys.readouterr().err
    assert told.startswith("warning: this run is older than config.encoder.order")
    assert told.count("\n") == 1
    # Nothing is said of recordings and of other alphabets.
    Transcripts().bind(Transcripts().fit(recordings(HEBREW)))
    Transcripts().bind(Transcripts().fit(pictures(TRAIN)))
    assert not capsys.readouterr().err


def test_lines_that_could_not_be_read_are_padding():
    train = pictures(["ab", "", "b"], mask=np.array([1, 0, 1], np.float32))
    encoder = Transcripts()
    batch = encoder.bind(encoder.fit(train), [train]).wrap(train).gather(np.arange(3))
    assert batch["mask"].tolist() == [1, 0, 1]
    assert batch["length"].tolist()[1] == batch["label_length"].tolist()[1] == 0
    assert not batch["image"][1].any()


def test_lines_to_be_read_need_no_text():
    encoder = Transcripts()
    unread = ArraySource({"image": [np.ones((8, 5, 1), np.uint8)]})
    source = encoder.bind(encoder.fit(pictures(TRAIN)), [unread]).wrap(unread)
    assert set(source.features) == set(source[0]) == {"image", "length"}
    assert source[0]["length"] == 5


def test_what_is_refused():
    for arguments, message in (
        ({"unknown": "guess"}, "unknown is one of keep, drop, error, got 'guess'"),
        ({"unknown_in_training": "keep"}, "unknown_in_training is one of error, drop, got 'keep'"),
        ({"normalization": "NFD"}, "normalization is one of NFC, NFKC, none, got 'NFD'"),
        ({"height": -1}, "height must be at least 0, got -1"),
        ({"alphabet": "ab", "min_count": 2}, "alphabet='ab' is given, min_count=2"),
    ):
        with pytest.raises(ValueError, match=message):
            Transcripts(**arguments)
    for texts, message in (
        (["a", ""], "line 1 of the split has an empty text"),
        ([b"a\xff"], r"line 0 of the split: byte 1 \(0xff\) of its text is no UTF-8"),
    ):
        with pytest.raises(ValueError, match=message):
            Transcripts().fit(pictures(texts))
    with pytest.raises(ValueError, match=r"line 1 of the split has image uint8\[6, 0, 1\]"):
        Transcripts().fit(pictures(["a", "b"], [(6, 2), (6, 0)]))
    text = {"text": [stored("a")]}
    for image in (np.zeros((6, 2, 1)), np.zeros((6, 2, 3), np.uint8), np.zeros((6, 2), np.uint8)):
        with pytest.raises(ValueError, match=r"has image .*expected is uint8\[height, width, 1\]"):
            Transcripts().fit(ArraySource({"image": [image], **text}))
    with pytest.raises(ValueError, match=r"has frames int64\[4, 3\], expected is float32"):
        Transcripts().fit(ArraySource({"frames": [np.zeros((4, 3), np.int64)], **text}))
    with pytest.raises(ValueError, match="min_count=3 leaves none of the 2 characters of the 1"):
        Transcripts(min_count=3).fit(pictures(["ab"]))
    with pytest.raises(ValueError, match="features 'image' and 'frames', the data set has 'text'"):
        Transcripts().fit(ArraySource({"text": [stored("a")]}))
    with pytest.raises(ValueError, match="transcripts have a feature 'text', the data set has 'im"):
        Transcripts().fit(ArraySource({"image": [np.ones((2, 3, 1), np.uint8)]}))
    with pytest.raises(ValueError, match="needs the asset 'alphabet'"):
        Transcripts().bind({})
    with pytest.raises(ValueError, match=r"line 0 of the split has frames of 4 bins, .* have 3"):
        encoded(recordings(TRAIN), recordings(["a"], bins=4))
    for array in (np.array([97]), np.array([[97]], np.uint32), np.array([0x110000], np.uint32)):
        with pytest.raises(ValueError, match="stored as code points"):
            Alphabet.from_array(array)
    for characters in ((), ("a", "b", "a"), ("ab",)):
        with pytest.raises(ValueError, match="at least one character and each once"):
            Alphabet(characters)
    for arguments, message in (
        ({"order": "eye"}, "order is one of auto, visual, logical, got 'eye'"),
        ({"base_direction": "rtl"}, "base_direction is one of auto, line, L, R, got 'rtl'"),
    ):
        with pytest.raises(ValueError, match=message):
            Transcripts(**arguments)
