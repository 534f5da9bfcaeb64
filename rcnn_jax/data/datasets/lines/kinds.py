"""The two kinds of files that have texts: pictures of lines, and recordings."""

from pathlib import Path

from rcnn_jax.data.datasets.lines.found import Kind
from rcnn_jax.data.files import audio, images

_SOUNDS = (
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff",
    ".aifc", ".au", ".snd", ".w64", ".sph", ".wv", ".amr", ".caf", ".webm", ".mp4", ".spx",
)  # fmt: skip
# Graphics that are not among `images.SUFFIXES`.
_GRAPHICS = (
    ".svg", ".psd", ".eps", ".ps", ".ai", ".djvu", ".xcf", ".exr", ".hdr", ".ico", ".bpg", ".jxr",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf",
)  # fmt: skip


def _why_no_picture(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in _SOUNDS:
        return f"{suffix} is a recording, which recordings:PATH reads"
    if suffix == ".pdf":
        return "of a PDF, each line must be cut out as a picture"
    if suffix in _GRAPHICS:
        return f"{suffix} is not read, save it as .png"
    return images.why_not_read(path) if suffix in images.SUFFIXES else None


def _why_no_recording(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in images.SUFFIXES or suffix in _GRAPHICS:
        return f"{suffix} is a picture, which lines:PATH reads"
    if suffix in _SOUNDS:
        return f"{suffix} is not read, ffmpeg -i {path.name} {path.stem}.wav converts it"
    return None


# Formats that were read first take precedence, so that a copy of a file in another format beside it
# changes no data set.
PICTURES = Kind(
    "lines", "pictures", images.SUFFIXES,
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".pbm", ".ppm"),
    _why_no_picture,
)  # fmt: skip
"""Pictures of lines of text."""

RECORDINGS = Kind("recordings", "recordings", (audio.SUFFIX,), (".wav",), _why_no_recording)
"""Recordings of speech."""
