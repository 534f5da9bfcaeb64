"""Wav files as samples: files of pipes and telephones, too.

A walk over the chunks of a file finds its samples and what they are. Integer and floating samples
are then decoded by SciPy, which is given those bytes behind a header of our own: it would refuse
many a header whose samples are all there. Files that a pipe has written have no length in their
header, because a pipe cannot go back to write it.
"""

import functools
import io
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from rcnn_jax.data.files import sound_formats

# Programs that write to a pipe put a length from here on into the header, or 0.
_NO_LENGTH = 0x7FFF0000
_NO_LENGTH_OF_64_BITS = 1 << 62
_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
# Behind the number of a codec in a WAVE_FORMAT_EXTENSIBLE header.
_GUIDS = {
    "<": bytes.fromhex("0000 1000 8000 00aa00389b71"),
    ">": bytes.fromhex("0000 0010 8000 00aa00389b71"),
}
_ORDERS = {b"RIFF": "<", b"RIFX": ">", b"RF64": "<", b"BW64": "<"}
_USUAL = (b"fmt ", b"data", b"LIST", b"fact", b"bext", b"cue ", b"PEAK", b"JUNK", b"id3 ", b"ID3 ")
# SciPy's headers hold 32 bits for a length; samples beyond come in several parts.
_PART = 1 << 30


class _Format(NamedTuple):
    """The format of samples.

    Attributes:
        codec: Number of the codec.
        channels: Number of channels, at least 1.
        rate: Samples of a channel per second, at least 1.
        block: Bytes of one sample of all channels.
        bits: Bits of a sample.
        order: `<` if numbers begin with their lowest byte, otherwise `>`.
    """

    codec: int
    channels: int
    rate: int
    block: int
    bits: int
    order: str


def read(path: Path) -> tuple[int, np.ndarray]:
    """Reads the samples of a wav file (RIFF, RIFX, RF64 or BW64).

    Samples of mu-law and A-law are expanded to 16 bits. If the header has no length, as in files
    that a pipe has written (0, or 0x7fff0000 and more), samples are read up to the end of the file;
    an incomplete one at the end is left out. What the file holds besides its samples is passed
    over, also behind them.

    Args:
        path: Path of the file.

    Returns:
        The sampling rate in Hz, and the samples `[samples]`, or `[samples, channels]` if there are
        several channels. Integers of up to 8 bits are uint8, of which 128 is silence; others are
        int16, int32 or int64 with their highest bit in front; floating numbers are float32 or
        float64. There may be no samples.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, is in another format or has another codec, or is
            truncated. The message names the file and what is wrong.
    """
    try:
        with path.open("rb") as opened:
            file = opened if opened.seekable() else io.BytesIO(opened.read())
            form, begin, length = _found(path, file, file.seek(0, io.SEEK_END))
            return form.rate, _decoded(path, file, form, begin, length)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error


def _found(path: Path, file: BinaryIO, size: int) -> tuple[_Format, int, int]:
    """Returns the format of the samples, and their place and length in bytes."""
    file.seek(0)
    start = file.read(sound_formats.START)
    order = _ORDERS.get(start[:4])
    if order is None or start[8:12] not in (b"WAVE", b""):
        raise ValueError(sound_formats.what_it_is(path, start))
    form, samples, place, of_64_bits = None, None, 12, None
    while place + 8 <= size and (form is None or samples is None):
        file.seek(place)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        place += 8
        if name == b"ds64" and place + 16 <= size:
            of_64_bits = struct.unpack("<Q", file.read(16)[8:])[0]
        elif name == b"fmt ":
            form = _format(path, file.read(min(length, 40)), order)
        elif name == b"data" and samples is None:
            unknown = _NO_LENGTH
            if length == 0xFFFFFFFF and of_64_bits is not None:
                length, unknown = of_64_bits, _NO_LENGTH_OF_64_BITS
            if length == 0 and not _are_parts(file, order, place, size):
                length = size - place
            elif size - place < length < unknown:
                raise ValueError(
                    f"{path} cannot be read as a wav file: it is truncated, its header promises "
                    f"{length:,} bytes of samples, {length - (size - place):,} of them are missing"
                )
            length = min(length, size - place)
            samples = (place, length)
        place += length
        place += length % 2 and _is_padded(file, place)
    if form is None or samples is None:
        missing = "format ('fmt ')" if form is None else "samples ('data')"
        cut = f"; it ends {place - size:,} bytes too early" if place > size + 1 else ""
        raise ValueError(
            f"{path} cannot be read as a wav file: it has no part with its {missing}{cut}"
        )
    return form, *samples


def _is_padded(file: BinaryIO, place: int) -> bool:
    """Returns whether a byte follows a part of odd length, which some programs leave out."""
    file.seek(place)
    return file.read(4) not in _USUAL


def _are_parts(file: BinaryIO, order: str, place: int, size: int) -> bool:
    """Returns whether the rest of a file is parts with a name and a length, or nothing."""
    while place + 8 <= size:
        file.seek(place)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        if not all(32 <= letter < 127 for letter in name):
            return False
        place += 8 + length + length % 2
    return place in (size, size + 1)  # The last byte of padding may be missing.


def _format(path: Path, content: bytes, order: str) -> _Format:
    """Returns the format that the part `fmt ` describes, if it is one that is read."""
    if len(content) < 16:
        raise ValueError(f"{path} cannot be read as a wav file: its part 'fmt ' is too short")
    codec, channels, rate, _, block, bits = struct.unpack(f"{order}HHIIHH", content[:16])
    if codec == _EXTENSIBLE and len(content) == 40 and content[28:] == _GUIDS[order]:
        codec = struct.unpack(f"{order}I", content[24:28])[0]
    if codec not in (_PCM, _FLOAT, _A_LAW, _MU_LAW):
        raise ValueError(
            f"{path} is a wav file with {sound_formats.codec(codec)}, read are integer and "
            f"floating samples, mu-law and A-law: {sound_formats.converted(path)}"
        )
    block = block or channels * -(-bits // 8)
    width = block // channels if channels else 0
    fits = {
        _PCM: (1 <= bits <= 8 and width == 1) or (9 <= bits <= 8 * width <= 64),
        _FLOAT: bits == 8 * width and bits in (32, 64),
        _A_LAW: width == 1,
        _MU_LAW: width == 1,
    }
    if not rate or not channels or block % channels or not fits[codec]:
        kind = "floating" if codec == _FLOAT else "integer" if codec == _PCM else "logarithmic"
        raise ValueError(
            f"{path} cannot be read as a wav file: its header speaks of {kind} samples of {bits} "
            f"bits and {channels} channels in {block} bytes, {rate} times a second"
        )
    return _Format(codec, channels, rate, block, bits, order)


def _decoded(path: Path, file: BinaryIO, form: _Format, begin: int, length: int) -> np.ndarray:
    """Returns the samples `[samples]` or `[samples, channels]`."""
    length -= length % form.block
    if not length:
        return np.zeros((0, form.channels) if form.channels > 1 else 0, np.int16)
    if form.codec in (_A_LAW, _MU_LAW):
        file.seek(begin)
        expand = mu_law if form.codec == _MU_LAW else a_law
        samples = expand()[np.frombuffer(file.read(length), np.uint8)]
        return samples.reshape(-1, form.channels) if form.channels > 1 else samples
    step = _PART - _PART % form.block
    parts = [
        _by_scipy(path, file, form, begin + place, min(step, length - place))
        for place in range(0, length, step)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _by_scipy(path: Path, file: BinaryIO, form: _Format, begin: int, length: int) -> np.ndarray:
    import scipy.io.wavfile

    o, rate, block = form.order, form.rate, form.block
    head = struct.pack(f"{o}4sI4s", b"RIFX" if o == ">" else b"RIFF", 36 + length, b"WAVE")
    # The fourth number follows from the others, and some programs write it wrongly.
    kind = (form.codec, form.channels, rate, rate * block % 2**32, block, form.bits)
    head += struct.pack(f"{o}4sIHHIIHH", b"fmt ", 16, *kind)
    head += struct.pack(f"{o}4sI", b"data", length)
    try:
        return scipy.io.wavfile.read(_Joined(head, file, begin, length))[1]
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a wav file: {error}") from error


class _Joined(io.RawIOBase):
    """A header followed by a part of a file, whose bytes are not copied."""

    def __init__(self, head: bytes, file: BinaryIO, begin: int, length: int) -> None:
        self._head, self._file, self._begin = head, file, begin
        self._size, self._place = len(head) + length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._place = (0, self._place, self._size)[whence] + offset
        return self._place

    def read(self, size: int = -1, /) -> bytes:
        end = self._size if size < 0 else min(self._place + size, self._size)
        content = self._head[self._place : end]
        behind = max(self._place, len(self._head))
        if end > behind:
            self._file.seek(self._begin + behind - len(self._head))
            content += self._file.read(end - behind)
        self._place = max(self._place, end)
        return content


@functools.cache
def mu_law() -> np.ndarray:
    """Returns the samples `int16[256]` that the bytes of mu-law represent.

    References:
        ITU-T G.711 (1988), table 2, whose 14 bits fill the upper bits of 16.
    """
    byte = ~np.arange(256) & 0xFF
    magnitude = (((byte & 15) << 3) + 132 << (byte >> 4 & 7)) - 132
    return np.where(byte & 128, -magnitude, magnitude).astype(np.int16)


@functools.cache
def a_law() -> np.ndarray:
    """Returns the samples `int16[256]` that the bytes of A-law represent.

    References:
        ITU-T G.711 (1988), table 1, whose 13 bits fill the upper bits of 16.
    """
    byte = np.arange(256) ^ 0x55
    segment, step = byte >> 4 & 7, (byte & 15) << 4
    magnitude = np.where(segment, step + 264 << np.maximum(segment - 1, 0), step + 8)
    return np.where(byte & 128, magnitude, -magnitude).astype(np.int16)
