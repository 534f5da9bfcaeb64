"""ATIS and SNIPS: what their files hold, and what is said of damaged ones."""

import numpy as np
import pytest

from data.majority import majority_answers
from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.text import slots
from rcnn_jax.data.text.sentences import to_bytes, to_words
from rcnn_jax.data.text.vocabulary import TagVocabulary, Vocabulary
from rcnn_jax.metrics.chunks import conlleval

TINY = slots.SlotFiles(
    name="tiny", intents=("ask", "tell"), sentences={"train": 3, "validation": None}, homepage="x"
)
SPEC = TINY.spec("", "")
CONTENT = {
    "seq.in": b"to  S\xc3\xa3o\tPaulo \nnow\r\nfly a\xc2\xa0b\n",
    "seq.out": b"O B-city I-city\nO\nO B-x\n",
    "label": b"ask\r\ntell \nask\n",
}


def write(folder, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (CONTENT | {k.replace("_", "."): v for k, v in changed.items()}).items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("residency", ["memory", "stream"])
def test_words_tags_and_intents(tmp_path, monkeypatch, residency):
    """Also through record files: sentences of different lengths are stored as they are."""
    monkeypatch.setattr(slots, "TINY", SPEC, raising=False)
    write(tmp_path / "tiny" / "train")
    source = catalog.open_source(
        "rcnn_jax.data.datasets.text.slots:TINY", "train", tmp_path, residency=residency
    )
    examples = [source[i] for i in range(len(source))]
    found = [[to_words(example[name]) for name in ("words", "tags")] for example in examples]
    assert found == [
        [["to", "São", "Paulo"], ["O", "B-city", "I-city"]],
        [["now"], ["O"]],
        [["fly", "a\xa0b"], ["O", "B-x"]],
    ]
    assert [int(example["intent"]) for example in examples] == [0, 1, 0]


@pytest.mark.parametrize("folder", ["dev", "valid"])
def test_the_validation_split_has_two_names(tmp_path, folder):
    write(tmp_path / "tiny" / folder)
    assert len(SPEC.columns(tmp_path, "validation")["words"]) == 3
    assert len(SPEC.columns(tmp_path / "tiny", "validation")["words"]) == 3


def test_missing_files_name_every_place(tmp_path):
    write(tmp_path / "tiny" / "train")
    (tmp_path / "tiny" / "train" / "seq.out").unlink()
    with pytest.raises(FileNotFoundError, match=r"tiny lacks train/seq\.out.*--data_dir"):
        SPEC.columns(tmp_path, "train")
    # The files of all such sets are called the same: the root must not pass for another set.
    write(tmp_path / "train")
    with pytest.raises(FileNotFoundError, match=f"atis: train/seq.in.*{tmp_path / 'atis'}"):
        slots.ATIS.columns(tmp_path, "train")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seq_out": CONTENT["seq.out"] + b"O O\n"}, r"seq\.out:4: tags without words, .*seq\.in"),
        ({"label": CONTENT["label"] + b"ask\n"}, r"label:4: an intent without words"),
        ({"seq_out": b"O B-city I-city\nO\n"}, r"seq\.in:3: words without tags, .*seq\.out has"),
        ({"label": b"ask\n"}, r"seq\.in:2: words without an intent"),
        ({"seq_out": b"O B-city\nO\nO B-x\n"}, r"seq\.out:1: 2 tags for the 3 words of .*seq\.in"),
        ({"seq_in": b"to S P\n\nfly b\n"}, r"seq\.in:2: the sentence is empty"),
        ({"seq_in": b"to S P\nn\xffw\nfly b\n"}, r"seq\.in:2: byte 1 \(0xff\) is no UTF-8"),
        ({"seq_out": b"O B-city I-city\nX\nO B-x\n"}, r"seq\.out:2: 'X' is no tag"),
        ({"seq_out": b"O B-city I-city\nB-\nO B-x\n"}, r"seq\.out:2: 'B-' is no tag"),
        ({"label": b"ask\nshout\nask\n"}, r"label:2: 'shout' is none of the 2 intents"),
        ({"label": b"ask\n\nask\n"}, r"label:2: '' is none of the 2 intents"),
        ({"seq_in": b"a\n", "seq_out": b"O\n", "label": b"ask\n"}, "has 1 sentences, tiny has 3"),
    ],
)
def test_damage_is_named_with_file_and_line(tmp_path, changed, message):
    write(tmp_path / "tiny" / "train", **changed)
    with pytest.raises(ValueError, match=message) as error:
        SPEC.columns(tmp_path, "train")
    assert "\n" not in str(error.value)


def test_an_empty_split_is_none(tmp_path):
    write(tmp_path / "tiny" / "dev", seq_in=b"", seq_out=b"", label=b"")
    assert len(SPEC.columns(tmp_path, "validation")["words"]) == 0


def test_sentences_as_bytes():
    assert to_words(to_bytes(["é", "北"])) == ["é", "北"]
    assert to_words(to_bytes([])) == []
    for word in ("", "a b"):
        with pytest.raises(ValueError, match="holds no space"):
            to_bytes([word])
    with pytest.raises(ValueError, match="stored as UTF-8"):
        to_words(np.array([255], np.uint8))


def columns_of(spec, root):
    found = {}
    for split in spec.splits:
        columns = spec.columns(root, split)
        texts = [[to_words(text) for text in columns[name]] for name in ("words", "tags")]
        found[split] = (*texts, columns["intent"])
    return found


@pytest.mark.realdata
def test_real_atis(real_data):
    """2,837 test slots are the published number; the others were counted in the files."""
    found = columns_of(slots.ATIS, real_data)
    words, tags, intents = zip(*found.values(), strict=True)
    assert [len(split) for split in words] == [4478, 500, 893]
    assert [sum(map(len, split)) for split in words] == [50_497, 5_703, 9_164]
    starts = [sum(t[0] == "B" for sentence in split for t in sentence) for split in tags]
    assert starts == [14_851, 1_709, 2_837]
    assert [len(np.unique(split)) for split in intents] == [21, 16, 20]
    assert len(np.unique(np.concatenate(intents))) == len(slots.ATIS_INTENTS) == 26
    vocabulary = Vocabulary.fit(words[0])
    assert len(vocabulary) == 867 + 1
    unknown = [word for sentence in words[2] for word in sentence if word not in vocabulary]
    assert len(unknown) == 71
    known = TagVocabulary.fit(tags[0])
    assert len(known) == 120
    assert list(known.unknown(tags[1])) == ["I-return_date.day_number"]
    assert list(known.unknown(tags[2])) == [
        "B-booking_class", "B-compartment", "B-flight", "B-stoploc.airport_code",
        "I-flight_number", "I-state_name",
    ]  # fmt: skip
    assert len(known.extended([*tags[1], *tags[2]])) == 127
    answers = majority_answers((words[0], tags[0]), words[2])
    assert conlleval(tags[2], answers)["f1"] == pytest.approx(60.36, abs=0.005)


@pytest.mark.realdata
def test_real_snips(real_data):
    found = columns_of(slots.SNIPS, real_data)
    words, tags, intents = zip(*found.values(), strict=True)
    assert [len(split) for split in words] == [13_084, 700, 700]
    assert [sum(map(len, split)) for split in words] == [117_700, 6_384, 6_354]
    starts = [sum(t[0] == "B" for sentence in split for t in sentence) for split in tags]
    assert starts == [33_958, 1_794, 1_790]
    assert [len(np.unique(split)) for split in intents] == [7, 7, 7]
    known = TagVocabulary.fit(tags[0])
    assert len(known) == 72
    assert not known.unknown(tags[1])
    assert not known.unknown(tags[2])
    assert len(Vocabulary.fit(words[0])) == 11_418 + 1
    assert any("español" in sentence for sentence in words[1])
    answers = majority_answers((words[0], tags[0]), words[2])
    assert conlleval(tags[2], answers)["f1"] == pytest.approx(49.77, abs=0.005)
