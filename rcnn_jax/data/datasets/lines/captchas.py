"""Captchas of four letters and digits, 72x27, from the zip file in which they were published.

The name of a picture is its text. Three names do not have four characters, although their pictures
show four: these pictures are left out. The second file of the collection, `test.zip`, holds
pictures that are numbered from 0001 to 1000 and have no text, so that all splits are parts of the
first file. The split of a picture depends on its name alone.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.files.line_images import read_picture
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.data.text.sentences import TEXT

CHARACTERS = 4
SPLITS = {"train": 2_317, "validation": 200, "test": 600}
MISNAMED = ("11wje", "fdq", "jm3")
"""Names of pictures that are left out: their text has another length than the pictures show."""
_FOLDERS = ("captcha_misads", "captchas", "captcha_recog")
_HOMEPAGE = "https://github.com/misads/captcha_recog"


def _find(root: Path, split: str) -> list[Path]:
    del split
    folders = [root / name for name in _FOLDERS]
    # Other data sets also have a train.zip: the root itself is used only if it is named like this.
    if root.resolve().name in _FOLDERS:
        folders.append(root)
    return roots.find_files("captchas", folders, [["train.zip"]], _HOMEPAGE)


def assign(names: Sequence[str]) -> dict[str, list[str]]:
    """Splits pictures by a hash of their names.

    Args:
        names: Texts of pictures, in any order.

    Returns:
        A dict from each split to its names in alphabetical order: 600 for `test`, 200 for
        `validation`, and all others for `train`.
    """
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    test, validation = SPLITS["test"], SPLITS["test"] + SPLITS["validation"]
    parts = {
        "train": ranked[validation:],
        "validation": ranked[test:validation],
        "test": ranked[:test],
    }
    return {split: sorted(part) for split, part in parts.items()}


def _read(root: Path, split: str) -> Columns:
    (path,) = _find(root, split)
    images, texts = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                PurePosixPath(name).stem: name
                for name in archive.namelist()
                if name.lower().endswith(".png")
            }
            stray = [n for n in members if len(n) != CHARACTERS and n not in MISNAMED]
            if stray:
                raise ValueError(f"{path}: {members[stray[0]]} is not named by four characters")
            for name in assign([n for n in members if n not in MISNAMED])[split]:
                images.append(read_picture(path / members[name], archive.read(members[name])))
                texts.append(np.frombuffer(name.encode(), np.uint8))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is a damaged zip file: {error}") from error
    return {"image": images, "text": texts}


CAPTCHAS = DatasetSpec(
    name="captchas",
    version="1.0.0",
    features={"image": Feature((27, 72, 1), "uint8"), "text": TEXT},
    splits=SPLITS,
    files=_find,
    read=_read,
    description="3,117 captchas of four letters and digits.",
    homepage=_HOMEPAGE,
    read_file=lambda path: {"image": read_picture(path)},
)
