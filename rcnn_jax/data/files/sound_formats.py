"""Names of the formats of recordings that are not read, and how to make wav files of them."""

import shlex
from pathlib import Path

from rcnn_jax.data.files import stand_ins

# What a file begins with: (offset, bytes, name, usual suffix). The first that fits counts.
_STARTS = (
    (0, b"fLaC", "a FLAC file", ".flac"),
    (0, b"ID3", "an MP3 file", ".mp3"),
    (0, b"OggS", "an Ogg file", ".ogg"),
    (4, b"ftyp", "an MPEG-4 file", ".m4a"),
    (8, b"AIFF", "an AIFF file", ".aiff"),
    (8, b"AIFC", "an AIFF file", ".aiff"),
    (0, b".snd", "an AU file", ".au"),
    (0, b"dns.", "an AU file", ".au"),
    (0, b"riff\x2e\x91\xcf\x11", "a Wave64 file", ".w64"),
    (0, b"NIST_1A", "a SPHERE file", ".sph"),
    (0, b"caff", "a CAF file", ".caf"),
    (0, b"#!AMR", "an AMR file", ".amr"),
    (0, b"#!SILK", "a SILK file", ".silk"),
    (0, b"wvpk", "a WavPack file", ".wv"),
    (0, b"MAC ", "a Monkey's Audio file", ".ape"),
    (0, b"TTA1", "a True Audio file", ".tta"),
    (0, b"ajkg", "a Shorten file", ".shn"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file", ".wma"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM file", ".webm"),
    (0, b"Creative Voice File", "a VOC file", ".voc"),
    (8, b"AVI ", "an AVI file", ".avi"),
)
_STAND_INS = {
    stand_ins.GIT_LFS: "a pointer of Git LFS, which `git lfs pull` replaces",
    stand_ins.GIT_ANNEX: "a pointer of git-annex, which `git annex get` replaces",
    stand_ins.PAGE: "a web page",
}
# What can be brought into no other format by a converter of sounds.
_NO_SOUND = (
    (0, b"MThd", "a MIDI file, which holds notes and no sound"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "compressed by gzip"),
    (0, b"BZh", "compressed by bzip2"),
    (0, b"\xfd7zXZ", "compressed by xz"),
)
# Within the first page of an Ogg file.
_IN_OGG = (
    (b"OpusHead", "an Opus file", ".opus"),
    (b"\x01vorbis", "an Ogg Vorbis file", ".ogg"),
    (b"\x7fFLAC", "a FLAC file in Ogg", ".oga"),
    (b"Speex   ", "a Speex file", ".spx"),
)
# Codecs inside of wav files by the number in their header (Microsoft's mmreg.h).
_CODECS = {
    0x0002: "Microsoft ADPCM",
    0x0011: "IMA ADPCM",
    0x0017: "Dialogic ADPCM",
    0x0020: "Yamaha ADPCM",
    0x0022: "TrueSpeech",
    0x0031: "GSM 6.10",
    0x0040: "G.721 ADPCM",
    0x0042: "G.723.1",
    0x0045: "G.726 ADPCM",
    0x0050: "MPEG audio",
    0x0055: "MP3",
    0x0064: "G.726 ADPCM",
    0x0065: "G.722 ADPCM",
    0x0083: "G.729",
    0x00FF: "AAC",
    0x0160: "Windows Media Audio",
    0x0161: "Windows Media Audio",
    0x0162: "Windows Media Audio",
    0x1602: "AAC",
    0x1610: "AAC",
    0x2000: "AC-3",
    0x2001: "DTS",
    0x566F: "Vorbis",
    0x674F: "Vorbis",
    0x704F: "Opus",
    0xA109: "Speex",
    0xF1AC: "FLAC",
    0xFFFE: "a codec that its header names by a GUID",
}
START = 128
"""Number of bytes from the beginning of a file that tell its format."""


def what_it_is(path: Path, start: bytes) -> str:
    """Says what a file is that is not a wav file, and how to make one of it.

    Args:
        path: Path of the file, which may have any suffix.
        start: The first `START` bytes of the file, or all of a shorter file.

    Returns:
        A sentence without a full stop that begins with the path.
    """
    if not start:
        return f"{path} is empty: it has 0 bytes"
    if instead := stand_ins.of(start):
        return f"{path} cannot be read as a wav file: it is {_STAND_INS[instead]}"
    for offset, magic, name in _NO_SOUND:
        if start[offset : offset + len(magic)].lower() == magic.lower():
            return f"{path} cannot be read as a wav file: it is {name}"
    name, suffix = _found(start)
    if name:
        return f"{path} is {name}, recordings are read from wav files: {converted(path, suffix)}"
    if not any(start):
        return f"{path} cannot be read as a wav file: it begins with {len(start)} bytes of zeros"
    if start.startswith(b"RIFF"):
        return f"{path} cannot be read as a wav file: it is {start[8:12]!r} in RIFF, not 'WAVE'"
    return f"{path} cannot be read as a wav file: it begins with {start[:4]!r}, not with 'RIFF'"


def _found(start: bytes) -> tuple[str, str]:
    """Returns the name and the usual suffix of a format; both are empty if it is not known."""
    for magic, name, suffix in _IN_OGG if start.startswith(b"OggS") else ():
        if magic in start:
            return name, suffix
    for offset, magic, name, suffix in _STARTS:
        if start[offset : offset + len(magic)] == magic:
            return name, suffix
    if len(start) > 1 and start[0] == 0xFF and start[1] & 0xF6 == 0xF0:
        return "an AAC file", ".aac"
    # Eleven bits of synchronization, and layer III.
    if len(start) > 1 and start[0] == 0xFF and start[1] & 0xE6 == 0xE2:
        return "an MP3 file", ".mp3"
    return "", ""


def codec(tag: int) -> str:
    """Returns the name of a codec in a wav file.

    Args:
        tag: Number of the codec in the header of the file.

    Returns:
        The name, or the number in hexadecimal digits if the codec is not known.
    """
    return _CODECS.get(tag, f"the codec {tag:#06x}")


def converted(path: Path, suffix: str = "") -> str:
    """Returns the commands that make a wav file with 16 bits a sample of a file.

    Args:
        path: Path of the file.
        suffix: Usual suffix of the file's format, which a file called `.wav` is renamed to; `""`
            to write the wav file beside it under another name.
    """
    source, target = path, path.with_suffix(".wav")
    before = ""
    if path.suffix.lower() == ".wav" and suffix:
        source = path.with_suffix(suffix)
        before = f"mv {shlex.quote(str(path))} {shlex.quote(str(source))} && "
    elif path.suffix.lower() == ".wav":
        target = path.with_name(f"{path.stem}_pcm.wav")
    return f"{before}ffmpeg -i {shlex.quote(str(source))} {shlex.quote(str(target))}"
