"""Records prepared through TFDS without TensorFlow, and official TFDS names."""

import dataclasses
import importlib.util
import io
import itertools
import os
import queue
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data.records.prepared import publish
from rcnn_jax.data import catalog
from rcnn_jax.data.records import builder as tfds_builder
from rcnn_jax.data.records.source import RecordSource
from rcnn_jax.data.spec import DatasetSpec, Feature

SIZE = 200


def columns_of(size):
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (size, 5, 4, 3)).astype(np.uint8),
        "label": rng.integers(0, 4, size).astype(np.int32),
        "weight": rng.normal(size=size).astype(np.float32),
        "box": rng.normal(size=(size, 4)).astype(np.float32),
        # Of another length in each example.
        "word": [rng.integers(0, 9, n % 5 + 1).astype(np.int32) for n in range(size)],
    }


@pytest.fixture
def spec(tmp_path):
    raw = tmp_path / "raw.bin"
    raw.write_bytes(b"original")
    return DatasetSpec(
        name="toy",
        version="1.2.3",
        features={
            "image": Feature((5, 4, 3), "uint8"),
            "label": Feature((), "int32", classes=("a", "b", "c", "d")),
            "weight": Feature((), "float32"),
            "box": Feature((4,), "float32"),
            "word": Feature((None,), "int32"),
        },
        splits={"train": SIZE, "test": 3},
        files=lambda root, split: [raw],
        read=lambda root, split: columns_of(SIZE if split == "train" else 3),
    )


def assert_same(source, columns):
    assert len(source) == len(columns["label"])
    for i in range(len(source)):
        for name, value in source[i].items():
            np.testing.assert_array_equal(value, columns[name][i])
            assert value.dtype == columns[name][i].dtype


def test_records_are_the_examples_in_their_order(spec, tmp_path):
    source = tfds_builder.open_records(spec, tmp_path, "train")
    assert_same(source, columns_of(SIZE))
    assert "tensorflow" not in sys.modules


def test_the_order_survives_several_shards(spec, tmp_path):
    builder = tfds_builder.builder_class(spec, tmp_path, "train")(
        data_dir=tmp_path / "shards", file_format="array_record"
    )
    shards = tfds.download.DownloadConfig(num_shards=7)
    builder.download_and_prepare(download_config=shards)
    assert len(list((tmp_path / "shards").rglob("*.array_record-*"))) == 7
    records = tfds_builder.open_data_source(builder, "train")
    assert_same(RecordSource(records, spec.features), columns_of(SIZE))


def test_digits_are_the_same_in_every_residency():
    memory, stream = (
        catalog.open_source("digits", "validation[10:]", residency=r) for r in ("memory", "stream")
    )
    rows = np.arange(170)
    expected, found = memory.gather(rows), stream.gather(rows)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].dtype == expected[name].dtype


def test_records_are_made_once_and_anew_when_the_files_change(spec, tmp_path):
    first = tfds_builder.prepare(spec, tmp_path, "test")
    stamp = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert tfds_builder.prepare(spec, tmp_path, "test") == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == stamp
    os.utime(spec.files(tmp_path, "test")[0], ns=(1, 1))
    assert tfds_builder.prepare(spec, tmp_path, "test") != first
    newer = dataclasses.replace(spec, version="2.0.0")
    prints = [tfds_builder.fingerprint(s, tmp_path, "test") for s in (spec, newer)]
    assert prints[0] != prints[1]


def test_two_processes_may_prepare_at_once(spec, tmp_path):
    """The second one starts and ends while the first is reading."""
    calls, inner = itertools.count(), queue.SimpleQueue()

    def read(root, split):
        if next(calls) == 0:
            inner.put(tfds_builder.prepare(twice, tmp_path, "train"))
        return spec.read(root, split)

    twice = dataclasses.replace(spec, read=read)
    outer = tfds_builder.prepare(twice, tmp_path, "train")
    assert outer == inner.get(block=False)
    assert_same(tfds_builder.open_records(twice, tmp_path, "train"), columns_of(SIZE))
    assert list(outer.parent.iterdir()) == [outer]


def test_a_reader_that_fails_leaves_nothing_behind(spec, tmp_path, own_cache):
    def read(root, split):
        raise ValueError("raw.bin is truncated")

    with pytest.raises(ValueError, match=r"raw\.bin is truncated"):
        tfds_builder.prepare(dataclasses.replace(spec, read=read), tmp_path, "train")
    assert list((own_cache / "rcnn_jax" / "prepared").iterdir()) == []
    assert len(tfds_builder.open_records(spec, tmp_path, "train")) == SIZE


def test_preparing_prints_nothing(spec, tmp_path, capfd):
    tfds_builder.prepare(spec, tmp_path, "train")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["tfds:toy", "tfds:toy/1.2.3", "tfds:toy:1.2.3"])
@pytest.mark.parametrize("residency", ["stream", "memory"])
def test_prepared_public_records_are_opened_by_name(spec, tmp_path, name, residency):
    publish(dataclasses.replace(spec, splits={"train": 200}), tmp_path)
    source = catalog.open_source(name, "train[50:]", tmp_path, residency=residency)
    columns = {key: column[50:] for key, column in columns_of(SIZE).items()}
    assert source.features["label"].num_classes == 4
    assert_same(source, columns)


def test_the_newest_prepared_version_is_taken(spec, tmp_path):
    for version in ("1.9.0", "1.10.0"):
        publish(dataclasses.replace(spec, version=version), tmp_path)
    from rcnn_jax.data.records import public

    assert str(public.find("toy", tmp_path).builder.version) == "1.10.0"


def test_texts_are_left_out_of_public_examples():
    features = tfds.features.FeaturesDict(
        {"id": tfds.features.Text(), "image": tfds.features.Image(shape=(32, 32, 3)),
         "label": tfds.features.ClassLabel(num_classes=10)}
    )  # fmt: skip
    assert tfds_builder.from_tfds(features) == {
        "image": Feature((32, 32, 3), "uint8"),
        "label": Feature((), "int32", 10),
    }


class RcnnJaxTestImages(tfds.core.GeneratorBasedBuilder):
    """Encoded images and texts, as public builders have them; PNG bytes are taken as they are."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(6, 5, 3)), "id": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        from PIL import Image

        for key in range(2):
            png = io.BytesIO()
            Image.fromarray(self.picture(key)).save(png, "png")
            png.seek(0)
            yield key, {"image": png, "id": f"number {key}"}

    @staticmethod
    def picture(key):
        return np.full((6, 5, 3), [10, 20, 30 + key], np.uint8)


@pytest.fixture
def encoded_images(tmp_path):
    pytest.importorskip("PIL")
    builder = RcnnJaxTestImages(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    return tmp_path


def test_encoded_public_images_are_decoded(encoded_images):
    source = catalog.open_source(
        "tfds:rcnn_jax_test_images", "train", encoded_images, residency="memory"
    )
    found = source.gather(np.arange(2))
    assert set(found) == {"image"}
    for image in found["image"]:
        np.testing.assert_array_equal(image, RcnnJaxTestImages.picture(image[0, 0, 2] - 30))


def test_encoded_public_images_without_a_decoder_are_one_sentence(encoded_images, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    with pytest.raises(
        ValueError, match=r"rcnn_jax_test_images' holds encoded .* pip install pillow"
    ):
        catalog.open_source(
            "tfds:rcnn_jax_test_images", "train", encoded_images, residency="stream"
        )


def test_an_unprepared_name_says_which_extra_it_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(ValueError, match=r"rcnn-jax\[prepare\]") as error:
        catalog.open_source("tfds:mnist", "train", tmp_path, residency="memory")
    assert str(tmp_path / "mnist") in str(error.value)
    assert str(tmp_path / "home" / "tensorflow_datasets" / "mnist") in str(error.value)


def test_records_of_another_format_are_named(spec, tmp_path):
    publish(spec, tmp_path)
    info = next(tmp_path.glob("toy/*/dataset_info.json"))
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match=r"toy/1\.2\.3 holds tfrecord files"):
        catalog.open_source("tfds:toy", "train", tmp_path, residency="memory")


@pytest.fixture
def tensorflow_seems_installed(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: name == "tensorflow" or real(name, *a)
    )


def test_a_public_name_unknown_to_tfds_suggests_the_nearest(tmp_path, tensorflow_seems_installed):
    with pytest.raises(ValueError, match=r"no data set 'mnistt'; did you mean 'mnist'\?"):
        catalog.open_source("tfds:mnistt", "train", tmp_path, residency="memory")


class RcnnJaxTestSet(tfds.core.GeneratorBasedBuilder):
    """A registered builder, as public ones are, that happens to need no TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"x": tfds.features.Scalar(np.int32), "name": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for key in range(6):
            yield key, {"x": key * key, "name": "a text"}


def test_a_public_name_is_prepared_with_the_extra(tmp_path, tensorflow_seems_installed):
    source = catalog.open_source("tfds:rcnn_jax_test_set", "train", tmp_path, residency="memory")
    assert source.gather(np.arange(6))["x"].tolist() == [0, 1, 4, 9, 16, 25]
    assert set(source.features) == {"x"}


@pytest.mark.parametrize("name", ["tfds:", "tfds:../mnist", "tfds:mnist:latest", "tfds:a/b/c"])
def test_other_public_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is no TFDS name like 'tfds:mnist'"):
        catalog.open_source(name, "train", tmp_path, residency="memory")
