"""Recognizes what a file is by its first bytes, whatever its name ends in."""

import re
import zipfile
from pathlib import Path

from rcnn_jax.data.files import stand_ins

NPZ, SAFETENSORS, TORCH = ".npz", ".safetensors", ".pth"

_HEAD = 1024
# A header of more than 100 MB is refused by safetensors itself.
_LARGEST_HEADER = 100_000_000
_FORMATS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras and MATLAB 7.3 write them",
    b"MATLAB 5.0 MAT-file": "a MATLAB file",
    b"\x93NUMPY": "a .npy file, which holds one array without a name",
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"BZh": "compressed by bzip2: unpack it",
    b"\xfd7zXZ\x00": "compressed by xz: unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"%PDF": "a PDF document",
}
_XML = re.compile(rb"(?i)<(!doctype|\?xml|!--|error|meta)")
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]{8,}")


def of(path: Path) -> str:
    """Returns the format of a weight file by its content.

    Args:
        path: Path of an existing file or folder.

    Returns:
        `NPZ`, `SAFETENSORS` or `TORCH` (a zip archive or pickles), or an empty string if the
        content is not recognized.

    Raises:
        ValueError: The content is something that holds no weights, or holds them in a way that is
            not read; the message says what it is and, where there is one, the way out.
        OSError: The file cannot be read.
    """
    if path.is_dir():
        raise ValueError("it is a folder: name the file of weights in it")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise ValueError(
            "the file is empty (0 bytes), as an interrupted download or copy leaves it"
        )
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if not zipfile.is_zipfile(path):
            raise ValueError("it is an incomplete zip archive, whose end is missing")
        return _of_archive(path)
    if head[8:9] == b"{" and 1 < int.from_bytes(head[:8], "little") < _LARGEST_HEADER:
        return SAFETENSORS
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return TORCH
    if head[257:262] == b"ustar":
        raise ValueError("it is a tar archive: unpack it")
    for begin, what in _FORMATS.items():
        if head.startswith(begin):
            raise ValueError(f"it is {what}")
    _refuse_text(head)
    return ""


def _of_archive(path: Path) -> str:
    """Returns the format of a zip archive by the names of its members."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith(".npy") for name in names):
        return NPZ
    # A program has pickles besides, so that it is looked for first.
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise ValueError(
            "it is a TorchScript archive, which holds a program: save its weights where torch is "
            "by torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
        )
    if any(name.endswith(("/archive_format", "/models/model.json")) for name in names):
        raise ValueError(
            "it is a program of torch.export: save its weights where torch is by "
            "torch.save(torch.export.load(FILE).state_dict, 'weights.pth')"
        )
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return TORCH
    if not names:
        return NPZ  # what numpy.savez writes of no arrays
    shown = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
    raise ValueError(f"it is a zip archive of {shown}: unpack it")


def _refuse_text(head: bytes) -> None:
    """Raises an error if the beginning of a file is a text."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    instead = stand_ins.of(head)
    if instead == stand_ins.GIT_LFS:
        raise ValueError(
            "it is a pointer of Git LFS and not the file itself: get that by git lfs pull"
        )
    if instead == stand_ins.GIT_ANNEX:
        raise ValueError(
            "it is a pointer of git-annex and not the file itself: get that by git annex get"
        )
    if instead == stand_ins.PAGE or _XML.match(text):
        raise ValueError(
            "it is a page in HTML or XML, as a failed download leaves it: download the file itself"
        )
    if _TEXT.fullmatch(head):
        begin = " ".join(text[:60].decode("utf-8", "replace").split())
        raise ValueError(f"it is a text, which begins with {begin!r}")
