"""Slot filling through the doors: text in files, tags that training has not, and damaged lines."""

import json
import shutil

import pytest

from rcnn_jax.data import assets
from rcnn_jax.data.text.vocabulary import TagVocabulary, Vocabulary
from rcnn_jax.metrics.chunks import conlleval

pytestmark = pytest.mark.one_row

FORK = """
from rcnn_jax.data.datasets.text.slots import SlotFiles

TINY = SlotFiles(
    name="tiny", intents=("ask",), sentences=dict.fromkeys(("train", "validation", "test")),
    homepage="nowhere",
).spec("", "")
"""
TRAIN = [("to taipei on may 7th", "O B-to O B-day I-day"), ("from oslo", "O B-from")]
VALIDATION = [("to oslo via rome", "O B-to O B-via")]
TEST = [("on may 9th from rome", "O B-day I-day O B-from"), ("to lima by bus", "O B-to O B-by")]
RUN = [
    "--config=tagger_bookings:elman",
    "--config.data.name=fork:TINY",
    "--config.model.hidden=8",
    "--config.model.features=8",
    "--config.model.dropout=0",
    "--config.model.word_dropout=0",
    "--config.epochs=0",
    "--config.steps=40",
    "--config.evaluate_every=40",
    "--config.batch_size=2",
    "--config.evaluation_batch_size=2",
    "--data_dir=.",
    "--workdir=run",
]


def write(folder, pairs):
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(("seq.in", "seq.out")):
        (folder / name).write_text("".join(f"{pair[place]}\n" for pair in pairs))
    (folder / "label").write_text("ask\n" * len(pairs))


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "fork.py").write_text(FORK)
    for split, pairs in (("train", TRAIN), ("dev", VALIDATION), ("test", TEST)):
        write(tmp_path / "tiny" / split, pairs)
    return tmp_path / "tiny"


BUCKETS = ["--config.sampler.name=rcnn_jax.data.buckets:Buckets", "--config.sampler.edges=(3,)"]


@pytest.mark.parametrize(
    ("residency", "encoding", "sampler"),
    [("stream", "embedding", []), ("device", "trigrams", BUCKETS)],
)
def test_sentences_are_trained_on_and_evaluated(door, tmp_path, tiny, residency, encoding, sampler):
    """Vocabularies lie in the workdir; tags without a class are counted, in both other splits."""
    ways = [f"--config.data.residency={residency}", f"--config.encoder.encoding={encoding}"]
    result = door("train", *RUN, *ways, *sampler)
    assert result.returncode == 0, result.stderr
    kept = assets.load(tmp_path / "run" / "assets")
    known = TagVocabulary.from_array(kept["tag_vocabulary"])
    assert known.tags == ("O", "B-day", "B-from", "B-to", "I-day")
    words = Vocabulary.from_array(kept["vocabulary"])
    assert ("0th" if encoding == "embedding" else "osl") in words
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    (validation,) = [line for line in lines if line.get("split") == "validation"]
    assert validation["unknown_tags"] == 0.25

    shutil.rmtree(tiny / "train")
    shutil.rmtree(tiny / "dev")
    result = door("evaluate", "--workdir=run", "--step=latest", "--data_dir=.")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["n"] == 2
    assert found["metrics"]["unknown_tags"] == pytest.approx(1 / 9)
    assert found["details"]["unknown_tags"] == [{"tag": "B-by", "tokens": 1}]
    gold = {row["slot"]: row["gold"] for row in found["details"]["slots"]}
    types = conlleval([pair[1].split() for pair in TEST], [pair[1].split() for pair in TEST])
    assert gold == {name: row["gold"] for name, row in types["types"].items()}
    # Two sentences are learnt by heart; the test's are made of the same parts.
    assert found["metrics"]["error"] <= 5 / 9


@pytest.mark.parametrize(
    ("file", "content", "arguments", "parts"),
    [
        ("train/seq.out", b"O B-to O B-day\nO B-from\n", [], ["seq.out:1", "4 tags", "5 words"]),
        ("train/seq.out", b"O B-to O B-day I-day\n", [], ["seq.in:2", "words without tags"]),
        ("dev/seq.in", b"to oslo \xff rome\n", [], ["dev/seq.in:1", "no UTF-8"]),
        ("dev/seq.in", b"\n", [], ["dev/seq.in:1", "the sentence is empty"]),
        ("dev/seq.out", b"O B-to O Q-via\n", [], ["dev/seq.out:1", "'Q-via' is no tag"]),
        ("", b"", ["--config.model.classes=7"], ["model.classes=7", "make it 5", "leave the key"]),
        ("", b"", ["--config.model.vocabulary=3"], ["vocabulary=3", "make it"]),
        ("", b"", ["--config.model.encoding=one_hot"], ["encoding='one_hot'", "'embedding'"]),
        ("", b"", ["--config.encoder.min_cout=2"], ["'min_cout'", "did you mean 'min_count'?"]),
        ("", b"", ["--config.encoder.name="], ["encoder.zero_digits is set", "name is empty"]),
        ("", b"", [*BUCKETS, "--config.sampler.features=('tag',)"], ["'tag'", "'words', 'tags'"]),
        ("", b"", ["--config.data.name=digits"], ["feature 'words'", "'image'"]),
    ],
)
def test_a_mistake_ends_in_one_sentence(door, tmp_path, tiny, file, content, arguments, parts):
    if file:
        (tiny / file).write_bytes(content)
    result = door("train", *RUN, *arguments)
    assert result.returncode in (1, 2), result.stderr
    (line,) = result.stderr.splitlines()
    for part in ("error: ", *parts):
        assert part in line, line
    assert not (tmp_path / "run").exists()


def test_the_summary_shows_a_model_whose_sizes_data_decide(door):
    result = door("summary", "--config=tagger_bookings:one_hot", "--config.model.vocabulary=300")
    assert result.returncode == 0, result.stderr
    assert "sizes that the training data decide are examples: classes=10\n" in result.stdout
    assert f"{3 * 300 * 50:,}" in result.stdout  # the window's kernel
