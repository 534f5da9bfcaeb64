"""Data sets by their official TFDS names: `tfds:mnist`, `tfds:cifar10/3.0.2`.

Records that are already prepared, here or elsewhere, are opened without TensorFlow. Only preparing
them requires it, because the public builders encode images with it.
"""

import dataclasses
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcnn_jax.data.records.builder import from_tfds, import_tfds, open_data_source
from rcnn_jax.data.records.damage import reason
from rcnn_jax.data.records.source import RecordSource
from rcnn_jax.errors import did_you_mean

_VERSION = re.compile(r"\d+\.\d+\.\d+")
DEFAULT_ROOT = Path("~/tensorflow_datasets")


@dataclasses.dataclass(frozen=True)
class PublicDataset:
    """A prepared public data set.

    Attributes:
        builder: TFDS's read-only builder of its folder.
        splits: Mapping from the name of a split to its number of examples.
    """

    builder: Any
    splits: Mapping[str, int]

    def open(self, split: str) -> RecordSource:
        """Opens one split; features that are not arrays, such as texts, are left out.

        Args:
            split: Name of the split, a key of `splits`.

        Raises:
            ValueError: If the data set holds encoded images and no installed library can decode
                them.
        """
        image = import_tfds().features.Image
        encoded = any(isinstance(f, image) for f in self.builder.info.features.values())
        if encoded and not any(map(importlib.util.find_spec, ("PIL", "cv2"))):
            raise ValueError(
                f"'tfds:{self.builder.name}' holds encoded images, which need Pillow: "
                "pip install pillow"
            )
        features = from_tfds(self.builder.info.features)
        return RecordSource(open_data_source(self.builder, split), features)


def _parse(name: str) -> tuple[str, str | None]:
    """Splits `name[/config][/version]` or `name[/config][:version]` into name and version."""
    base, colon, version = name.partition(":")
    if not colon and _VERSION.fullmatch(base.rpartition("/")[2]):
        base, _, version = base.rpartition("/")
    if not re.fullmatch(r"\w+(/[\w.-]+)?", base) or (version and not _VERSION.fullmatch(version)):
        raise ValueError(
            f"'tfds:{name}' is no TFDS name like 'tfds:mnist', 'tfds:cifar10/3.0.2' or "
            "'tfds:name/config:1.0.0'"
        )
    return base, version or None


def _prepared(folder: Path, version: str | None) -> list[Path]:
    """Returns the version folders below the folder of a data set, newest first."""
    folders = [
        path.parent
        for path in folder.glob("*/dataset_info.json")
        if _VERSION.fullmatch(path.parent.name) and version in (None, path.parent.name)
    ]
    return sorted(folders, key=lambda p: tuple(map(int, p.name.split("."))), reverse=True)


def find(name: str, root: Path) -> PublicDataset:
    """Finds prepared records below the data root or `~/tensorflow_datasets`, or prepares them.

    Args:
        name: The official name, without `tfds:`.
        root: The data root; records are prepared below it.

    Raises:
        ValueError: If TFDS has no such data set, the description of its records is damaged, or the
            records have to be prepared and TensorFlow (the `[prepare]` extra) is not installed.
    """
    base, version = _parse(name)
    tfds = import_tfds()
    looked = [root / base, DEFAULT_ROOT.expanduser() / base]
    other_format = ""
    for folder in (path for place in looked for path in _prepared(place, version)):
        try:
            file_format = json.loads((folder / "dataset_info.json").read_text()).get("fileFormat")
            if file_format == "array_record":
                return _opened(tfds.builder_from_directory(folder))
        except Exception as error:
            raise ValueError(
                f"what describes the records of 'tfds:{name}' in {folder} is damaged: "
                f"{reason(error)}; delete the folder to have them made anew"
            ) from error
        other_format = f" ({folder} holds {file_format or 'tfrecord'} files)"
    if importlib.util.find_spec("tensorflow") is None:
        raise ValueError(
            f"'tfds:{name}' is not prepared as array_record files below "
            f"{' or '.join(map(str, looked))}{other_format}; preparing it needs TensorFlow: "
            "pip install 'rcnn-jax[prepare]'"
        )
    full_name = f"{base}:{version}" if version else base
    try:
        builder = tfds.builder(full_name, data_dir=root, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        hint = did_you_mean(
            base.partition("/")[0], tfds.list_builders(with_community_datasets=False)
        )
        raise ValueError(f"TFDS has no data set {full_name!r}{hint}") from error
    builder.download_and_prepare()
    return _opened(builder)


def _opened(builder: Any) -> PublicDataset:
    splits = {name: info.num_examples for name, info in builder.info.splits.items()}
    return PublicDataset(builder, splits)
