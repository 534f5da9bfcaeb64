"""Bytes of record files and of what lies beside them, changed: never a wrong example."""

import shutil

import jax
import numpy as np
import pytest

from data.records.prepared import CLEAN, SIZE, SPEC, files_below, opened, rewrite, spoil
from rcnn_jax.data.records import builder
from rcnn_jax.data.records import damage as damage_lib
from rcnn_jax.data.records.damage import Damage, DamagedRecordError

LABEL = b"\x0a\x05label\x12\x05\x1a\x03\x0a\x01"  # in front of the label's one byte
ABSENT = "example should have type .* but has wrong type <class 'NoneType'>"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"image", b"imago", ABSENT),
        (b"label", b"libel", "TypeError: .* 'NoneType'"),
        (LABEL + b"\2", LABEL + b"\7", "feature 'label' holds 7, allowed are 0 to 3"),
        (b"\x78\x9c", b"\x78\x9d", "error: Error -3 while decompressing"),
        (None, b"", ABSENT),
        (None, b"nothing of the kind", "DecodeError"),
    ],
)
def test_contents_that_do_not_decode_are_damage_too(root, old, new, says):
    """The hashes of the file are right: such a record was written wrongly."""

    def change(contents):
        wrong = new if old is None else contents[2].replace(old, new)
        return [*contents[:2], wrong, *contents[3:]]

    rewrite(files_below(root)[0], change)
    with pytest.raises(DamagedRecordError, match=f"record 2 of .* is damaged: .*{says}") as error:
        opened(root, "stream")[2]
    assert "\n" not in str(error.value)
    damage = Damage("skip")
    found = opened(root, "stream", damage).gather(np.arange(SIZE))
    assert np.flatnonzero(found["mask"] == 0).tolist() == [2]
    np.testing.assert_array_equal(np.delete(found["image"], 2, 0), np.delete(CLEAN["image"], 2, 0))


def test_no_flipped_byte_gives_a_wrong_example(root):
    """A sample of all bytes in use, the padding between them and the end of the file."""
    file = files_below(root)[0]
    whole = file.read_bytes()
    used = np.flatnonzero(np.frombuffer(whole, np.uint8))
    assert used[-1] > 65536  # the index of the file lies at its end
    rng = np.random.default_rng(1)
    places = np.r_[used[:: len(used) // 150], rng.integers(0, len(whole), 10)]
    outcomes = {"file": 0, "record": 0, "unharmed": 0}
    for place in places.tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        damage = Damage("skip", warn=lambda line: None)
        found = opened(root, "stream", damage).gather(np.arange(SIZE))
        mask = found.get("mask", np.ones(SIZE)) > 0
        for name, column in CLEAN.items():
            np.testing.assert_array_equal(found[name][mask], column[mask])
            assert not found[name][~mask].any()
        lost = np.flatnonzero(~mask).tolist()
        assert damage.count == len(lost)
        # A record, all of its file, or nothing where nothing is kept.
        assert len(lost) < 2 or lost == list(range(6))
        outcomes["file" if len(lost) == 6 else "record" if lost else "unharmed"] += 1
    assert outcomes["file"] > 20
    assert outcomes["record"] > 80


@pytest.mark.parametrize("size", [0, 100, 65536, 65600, 131071])
def test_a_truncated_file_is_named_before_a_record_is_read(root, size):
    file = files_below(root)[0]
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=f"^the record file {file} is damaged: ") as error:
        opened(root, "stream")
    assert "\n" not in str(error.value)
    damage = Damage("skip")
    found = opened(root, "memory", damage).gather(np.arange(SIZE))
    assert found["mask"].tolist() == [0] * 6 + [1] * 6
    assert damage.count == 6


@pytest.mark.parametrize("choice", damage_lib.CHOICES)
def test_what_no_choice_mends_is_an_error(root, choice):
    first, second = files_below(root)
    kept = first.read_bytes()

    def refused(error, says):
        with pytest.raises(error, match=says):
            opened(root, "stream", Damage(choice))

    rewrite(first, lambda contents: contents + contents[:1])
    refused(ValueError, rf"{first} holds 7 records, dataset_info\.json beside it says 6")
    first.unlink()
    refused(FileNotFoundError, f"the record file {first} is missing")
    first.write_bytes(kept[:1000])
    second.write_bytes(b"")
    refused(ValueError, f"the record file {first} is damaged")


def test_a_file_that_goes_away_is_no_damage(root):
    first, _ = files_below(root)
    source = opened(root, "stream", Damage("skip"))
    first.unlink()
    with pytest.raises(FileNotFoundError, match=f"the record file {first} is gone"):
        source.gather(np.arange(3))


def test_what_describes_prepared_records_is_held_against_the_spec(tmp_path):
    """Bytes of both JSON files, flipped one at a time: one sentence, or nothing changes."""
    folder = builder.prepare(SPEC, tmp_path, "train")
    refused = []
    for name in ("dataset_info.json", "features.json"):
        whole = (folder / name).read_bytes()
        for place in range(0, len(whole), 19):
            damaged = bytearray(whole)
            damaged[place] ^= 1
            (folder / name).write_bytes(damaged)
            try:
                source = builder.open_records(SPEC, tmp_path, "train")
                builder.check_files(source)
            except (ValueError, FileNotFoundError) as error:
                refused.append(str(error))
            else:
                found = source.gather(np.arange(SIZE))
                jax.tree.map(np.testing.assert_array_equal, found, CLEAN)
        (folder / name).write_bytes(whole)
    assert len(refused) > 40
    for says in refused:
        assert f"delete {folder} to have the records made anew" in says
        assert "\n" not in says
    assert len(builder.open_records(SPEC, tmp_path, "train")) == SIZE


def test_damaged_prepared_records_say_how_to_make_them_anew(tmp_path):
    folder = builder.prepare(SPEC, tmp_path, "train")
    spoil(files_below(folder)[0], 1)
    with pytest.raises(
        DamagedRecordError, match=f"; delete {folder} to have the records made anew;"
    ):
        builder.open_records(SPEC, tmp_path, "train").gather(np.arange(SIZE))
    shutil.rmtree(folder)
    builder.open_records(SPEC, tmp_path, "train").gather(np.arange(SIZE))
