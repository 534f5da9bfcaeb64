"""Builds ArrayRecord files of a data set once, through TFDS but without TensorFlow.

Prepared records lie in the cache folder, not beside the original files, which may be read-only. The
name of their folder contains a fingerprint of the spec and of the original files, and a digest of
the code that reads these. Records are prepared anew if any of this changes, and also if another
file that the code opens changes.
"""

import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.records import code_digest, opened_files
from rcnn_jax.data.records.damage import reason
from rcnn_jax.data.records.source import RecordSource
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.output.digests import json_digest

# Any change of how examples are written needs a new number, because old records are kept.
_FORMAT = 1


def import_tfds() -> Any:
    """Imports and returns TFDS.

    Raises:
        ValueError: If it is not installed; the message names the packages to install.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ValueError(
            f"residency 'stream' and 'tfds:' names need tensorflow-datasets ({error}): pip install "
            "tensorflow-datasets importlib_resources array_record, or use residency 'memory' or "
            "'device'"
        ) from error
    return tensorflow_datasets


def fingerprint(spec: DatasetSpec, root: Path, split: str) -> str:
    """Returns 16 hexadecimal digits that identify the content of the records.

    Files enter by name, size and modification time: reading them all at each start would cost more
    than it protects.

    Args:
        spec: The data set.
        root: Data root of the original files.
        split: Name of the split.
    """
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in spec.files(root, split)]
    features = {name: repr(feature) for name, feature in spec.features.items()}
    facts = [_FORMAT, spec.name, spec.version, features, split, spec.splits[split], files]
    return json_digest(facts)[:16]


def _to_tfds(feature: Feature) -> Any:
    """Returns TFDS's class for a feature; never `Image`, which encodes with TensorFlow."""
    tfds = import_tfds()
    # A label with axes, such as one for each time step, is stored as an array.
    if isinstance(feature.classes, tuple) and not feature.shape:
        return tfds.features.ClassLabel(names=feature.classes)
    if feature.classes is not None and not feature.shape:
        return tfds.features.ClassLabel(num_classes=feature.classes)
    if not feature.shape:
        return tfds.features.Scalar(dtype=np.dtype(feature.dtype))
    return tfds.features.Tensor(shape=feature.shape, dtype=np.dtype(feature.dtype), encoding="zlib")


def _to_tfds_features(spec: DatasetSpec) -> Any:
    features = {name: _to_tfds(feature) for name, feature in spec.features.items()}
    return import_tfds().features.FeaturesDict(features)


def builder_class(spec: DatasetSpec, root: Path, split: str) -> Any:
    """Returns a `tfds.core.GeneratorBasedBuilder` subclass that writes one split in its order.

    Args:
        spec: The data set.
        root: Data root of the original files.
        split: Name of the split.
    """
    tfds = import_tfds()

    # A registered class would be found by `tfds.builder(name)` in place of TFDS's own.
    with tfds.core.registered.skip_registration():

        class Builder(tfds.core.GeneratorBasedBuilder):
            """Writes the columns that the spec's reader returns."""

            name = spec.name
            VERSION = tfds.core.Version(spec.version)

            def _info(self) -> Any:
                return tfds.core.DatasetInfo(
                    builder=self,
                    description=spec.description or spec.name,
                    homepage=spec.homepage or None,
                    citation=spec.citation or None,
                    features=_to_tfds_features(spec),
                    # TFDS would order records by a hash of their keys.
                    disable_shuffling=True,
                )

            def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
                del dl_manager
                return {split: self._generate_examples()}

            def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
                columns: Columns = spec.columns(root, split)
                for key in range(len(next(iter(columns.values())))):
                    yield key, {name: _plain(column[key]) for name, column in columns.items()}

    return Builder


def _plain(value: Any) -> Any:
    """Converts NumPy scalars to Python numbers, because ClassLabel takes Python integers only."""
    return value.item() if isinstance(value, np.generic) else value


def prepare(spec: DatasetSpec, root: Path, split: str) -> Path:
    """Returns the folder with the records of a split, and prepares them if they are not there.

    Records are written to a temporary folder that is renamed at the end. A killed process therefore
    leaves no incomplete records, and of two processes that prepare at once the later one uses the
    records of the earlier.

    Args:
        spec: The data set.
        root: Data root of the original files.
        split: Name of the split. Only its files are needed: training does not require the test
            files.

    Raises:
        OSError: If the cache folder is full or read-only.
    """
    tfds = import_tfds()
    parent = roots.cache_dir() / "prepared"
    known = f"{spec.name}-{split}-{fingerprint(spec, root, split)}"
    final = parent / f"{known}-{code_digest.code_digest(spec.read)[:8]}"
    usable = [final, *sorted(parent.glob(f"{final.name}-*"))]
    if code_digest.is_shipped(spec.read):
        # Records from before the code was part of the name; a new `spec.version` outdates them.
        usable.append(parent / known)
    for folder in usable:
        if folder.is_dir() and opened_files.unchanged(folder):
            return folder
    for folder in sorted(parent.glob(f"{known}*"))[:1]:
        print(
            f"note: the code that reads {spec.name}, or a file that it opens, is not known to be "
            f"that of the records in {folder}: they are made anew, and those can be deleted",
            file=sys.stderr,
            flush=True,
        )
    parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger(__name__).info("preparing %s %s once, into %s", spec.name, split, final)
    work = Path(tempfile.mkdtemp(prefix=f".{spec.name}-", dir=parent))
    try:
        builder = builder_class(spec, root, split)(data_dir=work, file_format="array_record")
        # The files of the spec are left out here, because they are part of the fingerprint.
        beside = [root, *code_digest.folders(spec.read)]
        with opened_files.watch(beside, {parent, *spec.files(root, split)}) as opened, _quiet(tfds):
            builder.download_and_prepare()
        digest = opened_files.write(Path(builder.data_dir), opened)
        final = final.with_name("-".join(part for part in (final.name, digest) if part))
        try:
            os.rename(builder.data_dir, final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final


@contextlib.contextmanager
def _quiet(tfds: Any) -> Iterator[None]:
    """Suppresses TFDS's output and progress bars, because the commands control the terminal."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def open_records(spec: DatasetSpec, root: Path, split: str) -> RecordSource:
    """Opens a split of the prepared records, and prepares them first if needed.

    Args:
        spec: The data set.
        root: Data root of the original files.
        split: Name of the split.

    Raises:
        ValueError: If the files beside the records that describe them are damaged.
    """
    tfds = import_tfds()
    folder = prepare(spec, root, split)
    remedy = f"delete {folder} to have the records made anew"
    try:
        builder = tfds.builder_from_directory(folder)
        described = builder.info.features.to_json(), builder.info.name
        if described != (_to_tfds_features(spec).to_json(), spec.name):
            raise ValueError("features.json and dataset_info.json describe other records")
        _ = builder.info.splits[split].file_instructions
    except Exception as error:
        raise ValueError(
            f"what describes the records in {folder} is damaged: {reason(error)}; {remedy}"
        ) from error
    return RecordSource(open_data_source(builder, split), spec.features, remedy=remedy)


def open_data_source(builder: Any, split: str) -> Any:
    """Returns `builder.as_data_source(split)`.

    Args:
        builder: A TFDS builder whose records are prepared.
        split: Name of the split.

    Raises:
        ValueError: If array_record is not installed.
    """
    try:
        return builder.as_data_source(split=split)
    except ImportError as error:
        raise ValueError(
            f"reading {builder.name} needs array_record ({error}): pip install array_record"
        ) from error


def check_files(source: RecordSource) -> None:
    """Checks the number of records that the end of each record file states.

    Without this check, a truncated file would be noticed only at some later step, and a file
    replaced by another with more records never.

    Args:
        source: The records. Its `damage` determines what happens to a file that cannot be read; if
            the file is kept, its records are found damaged one by one as they are read.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file holds another number of records than it should, if one cannot be read
            and that is to stop the run, or if none can be read.
    """
    from array_record.python import (
        array_record_module,  # pyright: ignore[reportAttributeAccessIssue]
    )

    records, unreadable = source.records, []
    files = records.dataset_info.splits[records.split].file_instructions
    end = f"; {source.remedy}" if source.remedy else ""
    for part in files:
        path = Path(part.filename)
        if not path.exists():
            raise FileNotFoundError(f"the record file {path} is missing{end}")
        try:
            reader = array_record_module.ArrayRecordReader(str(path))
            count = reader.num_records()
            reader.close()
        except RuntimeError as error:
            unreadable.append(f"the record file {path} is damaged: {reason(error)}{end}")
            continue
        if count != part.examples_in_shard:
            raise ValueError(
                f"the record file {path} holds {count} records, dataset_info.json beside it says "
                f"{part.examples_in_shard}{end}"
            )
    if unreadable and (source.damage.choice == "stop" or len(unreadable) == len(files)):
        raise ValueError(unreadable[0])


def from_tfds(features: Mapping[str, Any]) -> dict[str, Feature]:
    """Returns the features of a public TFDS builder as `Feature`s.

    Args:
        features: Mapping from name to TFDS feature.

    Returns:
        Mapping from name to `Feature`; features that an array of numbers cannot hold are left out.
    """
    tfds = import_tfds()
    converted = {}
    for name, feature in features.items():
        if isinstance(feature, tfds.features.ClassLabel):
            converted[name] = Feature((), "int32", feature.num_classes)
        elif (
            isinstance(feature, tfds.features.Tensor | tfds.features.Image)
            and np.dtype(feature.np_dtype).kind in "biuf"
        ):
            converted[name] = Feature(tuple(feature.shape), np.dtype(feature.np_dtype).name)
    return converted
