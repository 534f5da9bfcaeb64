"""A writer of TIFF files of any type and tag: Pillow writes a few alone."""

import struct

import numpy as np

_KINDS = {"u": 1, "i": 2, "f": 3}


def page(array, tags=None):
    """The tags and pixels of one page: grey or RGB, of any dtype."""
    rows, columns, samples = (*array.shape, 1)[:3]
    bits = array.dtype.itemsize * 8
    found = {
        256: columns, 257: rows, 258: (bits,) * samples, 259: 1, 262: 1 if samples == 1 else 2,
        277: samples, 278: rows, 279: array.nbytes, 339: (_KINDS[array.dtype.kind],) * samples,
    }  # fmt: skip
    return {**found, **(tags or {})}, array.tobytes()


def tiff(*pages):
    """The bytes of a file of pages, each an array or what `page` returns."""
    made = bytearray(struct.pack("<2sHI", b"II", 42, 0))
    link = 4
    for each in pages:
        tags, pixels = page(each) if isinstance(each, np.ndarray) else each
        tags = {**tags, 273: len(made)}
        made += pixels
        entries = []
        for code, value in sorted(tags.items()):
            if isinstance(value, str):
                kind, count, content = 2, len(value) + 1, value.encode() + b"\0"
            else:
                values = value if isinstance(value, tuple) else (value,)
                kind, count = 4 if code in (273, 279, 256, 257) else 3, len(values)
                content = struct.pack(f"<{count}{'I' if kind == 4 else 'H'}", *values)
            if len(content) > 4:
                place, content = len(made), content
                made += content
                content = struct.pack("<I", place)
            entries.append(struct.pack("<HHI", code, kind, count) + content.ljust(4, b"\0"))
        made[link : link + 4] = struct.pack("<I", len(made))
        made += struct.pack("<H", len(entries)) + b"".join(entries)
        link = len(made)
        made += struct.pack("<I", 0)
    return bytes(made)
