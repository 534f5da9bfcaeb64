"""Records that cannot be read: counted, named, and one choice in all residencies."""

import concurrent.futures
import types

import jax
import numpy as np
import pytest

from data.records.prepared import CLEAN, SIZE, SPEC, files_below, opened, publish, spoil
from rcnn_jax.configuration import schema
from rcnn_jax.data import pipeline, samplers, sources, spec
from rcnn_jax.data.records import damage as damage_lib
from rcnn_jax.data.records.damage import Damage, DamagedRecordError
from rcnn_jax.data.records.source import RecordSource
from rcnn_jax.data.spec import DatasetSpec, Feature
from rcnn_jax.errors import UserError

RESIDENCIES = sources.RESIDENCIES


def batches_of(source, residency, start_step=0, num_steps=6):
    with pipeline.train_batches(
        source, samplers.Shuffled(len(source), 4, seed=3), start_step=start_step,
        num_steps=num_steps, residency=residency, place=jax.device_put,
    ) as batches:  # fmt: skip
        return [jax.tree.map(np.asarray, batch) for batch in batches]


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_the_first_damaged_record_stops_with_one_sentence(root, residency):
    file = files_below(root)[1]
    spoil(file, 2)
    with pytest.raises(UserError) as error:
        batches_of(opened(root, residency), residency)
    says = str(error.value)
    assert says.startswith(f"record 8 of toy split 'train' in {file} is damaged: Corrupted ")
    assert "chunk data hash mismatch" in says
    assert says.endswith("; --config.data.damaged=skip goes on without such records")
    assert "\n" not in says


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_skipped_records_are_padding_at_their_places(root, residency, capfd):
    """Two epochs: the other rows, the order and a later start are those of whole files."""
    first, second = files_below(root)
    spoil(first, 0)
    spoil(second, 2)
    damage = Damage("skip")
    source = opened(root, residency, damage)
    found = batches_of(source, residency)
    order = samplers.Shuffled(SIZE, 4, seed=3)
    for step, batch in enumerate(found):
        rows = order.indices(step)
        mask = np.isin(rows, [0, 8], invert=True).astype(np.float32)
        np.testing.assert_array_equal(batch["mask"], mask)
        assert batch["mask"].dtype == np.float32
        for name, column in CLEAN.items():
            expected = column[rows] * mask.reshape(4, *[1] * (column.ndim - 1))
            np.testing.assert_array_equal(batch[name], expected)
            assert batch[name].dtype == column.dtype
    assert sum(4 - batch["mask"].sum() for batch in found) == 2 * 2
    later = batches_of(source, residency, start_step=4, num_steps=2)
    jax.tree.map(np.testing.assert_array_equal, later, found[4:])
    lines = capfd.readouterr().err.splitlines()
    assert damage.count == len(lines) == 2
    for line, index, file in zip(sorted(lines), (0, 8), (first, second), strict=True):
        assert line.startswith(f"warning: record {index} of toy split 'train' in {file} is damaged")
        assert line.endswith("; it counts as padding")
        assert line[len("warning: ") : -len("; it counts as padding")] in damage.named


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_evaluation_counts_the_readable_alone(root, residency):
    spoil(files_below(root)[0], 3)
    source = opened(root, residency, Damage("skip"))
    with pipeline.evaluation_batches(
        source, 5, residency=residency, place=jax.device_put
    ) as batches:
        found = [jax.tree.map(np.asarray, batch) for batch in batches]
    mask = np.concatenate([batch["mask"] for batch in found])
    assert mask.tolist() == [1, 1, 1, 0] + [1] * 8 + [0] * 3
    labels = np.concatenate([batch["label"] for batch in found])
    np.testing.assert_array_equal(labels[mask > 0], np.delete(CLEAN["label"], 3))


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_parts_of_a_split_name_records_by_their_place_in_it(root, residency):
    spoil(files_below(root)[0], 4)
    damage = Damage("skip")
    source = opened(root, residency, damage, "train[6:]+train[2:6]+train[:2]")
    found = source.gather(np.arange(SIZE))
    order = np.r_[6:12, 2:6, 0:2]
    assert found["mask"].tolist() == [float(index != 4) for index in order]
    np.testing.assert_array_equal(
        found["image"], CLEAN["image"][order] * (order != 4)[:, *[None] * 3]
    )
    assert [text.split(" of ")[0] for text in damage.named] == ["record 4"]
    # Parts without it are as they were.
    assert "mask" not in opened(root, residency, damage, "train[5:]").gather(np.arange(7))


def test_a_batch_of_padding_alone_needs_no_whole_record(root):
    spoil(files_below(root)[0], 0)
    source = opened(root, "stream", Damage("skip"))
    batch = pipeline.host_batch(source, np.array([-1, -1, -1]))
    assert batch["mask"].tolist() == [0, 0, 0]
    assert batch["image"].shape == (3, 4, 4, 1)
    assert not batch["image"].any()
    # What it would be if it could be read, for who asks for shapes only.
    example = source[0]
    assert (example["image"].shape, example["image"].dtype) == ((4, 4, 1), np.uint8)
    assert example["mask"] == 0


@pytest.mark.parametrize(
    ("feature", "value", "says"),
    [
        (Feature((2,), "uint8"), np.zeros(3, np.uint8), r"uint8\[3\], the spec says uint8\[2\]"),
        (Feature((2,), "uint8"), np.zeros((2, 1), np.uint8), r"uint8\[2, 1\]"),
        (Feature((2,), "uint8"), np.zeros(2, np.int8), r"is int8\[2\], the spec says uint8"),
        (Feature((None,), "int32"), np.zeros((2, 2), np.int32), r"the spec says int32\[None\]"),
        (Feature((), "uint8"), 300, "300"),
        (Feature((), "int32"), 1.5, "holds 1.5, which int32 cannot"),
        (Feature((), "float32"), 1e300, r"holds 1e\+300, which float32 cannot"),
        (Feature((), "int32", 4), 4, "holds 4, allowed are 0 to 3"),
        (Feature((), "int32", ("a", "b")), -1, "holds -1, allowed are 0 to 1"),
        (Feature((2,), "int32", 4), np.array([0, 5], np.int32), "holds 5"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_value_other_than_promised_is_refused(feature, value, says):
    with pytest.raises((ValueError, OverflowError), match=says):
        spec.checked("x", feature, value)


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (Feature((), "int32", 4), 3),
        (Feature((), "uint8"), 255),
        (Feature((), "float32"), float("nan")),
        (Feature((), "float32"), float(np.float32(0.1))),
        (Feature((None, 2), "float32"), np.zeros((0, 2), np.float32)),
        (Feature((2,), "int32", 4), np.array([0, 3], np.int32)),
    ],
)
def test_a_value_as_promised_stays_itself(feature, value):
    found = spec.checked("x", feature, value)
    np.testing.assert_array_equal(found, value)
    assert found.dtype == feature.dtype


@pytest.mark.parametrize("error", [ImportError("no decoder"), MemoryError()])
def test_what_this_machine_lacks_is_no_damage(error):
    class Records:
        dataset_info, split = types.SimpleNamespace(name="toy"), "train"

        def __len__(self):
            return 3

        def __getitem__(self, index):
            raise error

        def __getitems__(self, indices):
            raise error

    source = RecordSource(Records(), SPEC.features, Damage("skip"))
    with pytest.raises(type(error)):
        source.gather(np.arange(3))


def test_what_was_lost_stays_lost(root):
    """One epoch is as the next, also where a disk reads today what it did not yesterday."""
    file = files_below(root)[0]
    whole = file.read_bytes()
    spoil(file, 1)
    damage = Damage("skip")
    source = opened(root, "stream", damage)
    assert source.gather(np.arange(3))["mask"].tolist() == [1, 0, 1]
    file.write_bytes(whole)
    assert source.gather(np.arange(3))["mask"].tolist() == [1, 0, 1]
    assert source[1]["mask"] == 0
    assert "mask" not in opened(root, "stream", Damage("skip")).gather(np.arange(3))


def test_examples_of_any_length_keep_their_places(tmp_path):
    """A row that is lost takes the shape of the others, in memory and from the files."""
    words = [np.arange(1, 3 + (n == 4), dtype=np.int32) for n in range(5)]
    ragged = DatasetSpec(
        name="toy", version="1.0.0", features={"word": Feature((None,), "int32")},
        splits={"train": 5}, files=lambda root, split: [], read=lambda r, s: {"word": words},
    )  # fmt: skip
    publish(ragged, tmp_path, shards=1)
    spoil(files_below(tmp_path)[0], 1)
    for residency in ("stream", "memory"):
        source = opened(tmp_path, residency, Damage("skip"))
        found = source.gather(np.arange(4))
        assert found["word"].tolist() == [[1, 2], [0, 0], [1, 2], [1, 2]]
        assert found["mask"].tolist() == [1, 0, 1, 1]
        assert source[4]["word"].tolist() == [1, 2, 3]
        assert (source[1]["word"].tolist(), source[1]["mask"]) == ([], 0)
        with pytest.raises(ValueError, match="feature 'word' differs in shape"):
            source.gather(np.array([1, 2, 4]))


def record(index, split="train"):
    return DamagedRecordError(("toy", split, index), "FILE", "torn")


def test_the_first_are_named_and_all_are_counted_whatever_thread_meets_them():
    lines = []
    damage = Damage("skip", warn=lambda line: lines.append((line, damage.count)))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(damage.meet, [record(index // 8) for index in range(400)]))
    damage.meet(record(0, "test"))
    assert damage.count == 51
    assert len(set(lines)) == len(lines) == 11
    assert lines[10][0] == "more than 10 records are damaged: further ones are only counted"
    assert [f"{text}; it counts as padding" for text in damage.named] == [a for a, _ in lines[:10]]
    assert all(damage.knows(("toy", "train", index)) for index in range(50))
    assert not damage.knows(("toy", "test", 1))


def test_stopping_counts_nothing():
    damage = Damage()
    with pytest.raises(
        DamagedRecordError, match="record 5 of toy split 'train' in FILE is damaged"
    ):
        damage.meet(record(5))
    assert (damage.count, damage.named) == (0, ())


def test_there_are_two_choices():
    assert schema.CHOICES["data.damaged"] == damage_lib.CHOICES == ("stop", "skip")
    assert schema.DEFAULTS["data"]["damaged"] == Damage().choice == "stop"
    with pytest.raises(ValueError, match="damaged 'ignore' is not one of stop, skip"):
        Damage("ignore")
