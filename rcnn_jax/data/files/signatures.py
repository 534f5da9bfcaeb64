"""What a file that cannot be read as a picture is, told by its first bytes."""

import re

from rcnn_jax.data.files import stand_ins, tiff_tags

_STAND_INS = {
    stand_ins.GIT_LFS: "a pointer of Git LFS, `git lfs pull` fetches the picture",
    stand_ins.GIT_ANNEX: "a pointer of git-annex, `git annex get` fetches the picture",
    stand_ins.PAGE: (
        "a web page (HTML), not a picture, such as a server sends instead of a missing file"
    ),
}

# First bytes, and what a file that begins with them is. Pictures stand here, too: one that Pillow
# does not recognize in spite of its first bytes is damaged.
_KNOWN = (
    (b"%PDF", "a PDF document, `pdftoppm -r 300 -png` writes a picture of each page"),
    (b"%!PS", "a PostScript drawing, not pixels"),
    (b"\x89PNG", "a PNG picture that is damaged or cut off"),
    (b"\xff\xd8\xff", "a JPEG picture that is damaged or cut off"),
    (b"GIF8", "a GIF picture that is damaged or cut off"),
    (b"BM", "a BMP picture that is damaged or cut off"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture, which has to be converted to 8 or 16 bits"),
    (b"#?RADIANCE", "a Radiance HDR picture, which has to be converted to 8 or 16 bits"),
    (b"AT&TFORM", "a DjVu document, which has to be converted to pictures"),
    (b"\x93NUMPY", "a NumPy array, which has to be saved as a picture"),
    (b"\x89HDF", "an HDF5 file, not a picture"),
    (b"PK\x03\x04", "a zip archive, which has to be unpacked"),
    (b"\x1f\x8b", "a gzip archive, which has to be unpacked"),
    (b"Rar!", "a RAR archive, which has to be unpacked"),
    (b"7z\xbc\xaf", "a 7z archive, which has to be unpacked"),
    (b"{", "JSON, not a picture"),
)
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_JXL = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def plugin_suffix(data: bytes) -> str | None:
    """Returns the suffix of a format that Pillow reads only with the help of another package.

    Args:
        data: Content of a file, at least its first 64 bytes.

    Returns:
        `.heic`, `.jxl` or `.avif`; None for any other file.
    """
    if data.startswith(_JXL):
        return ".jxl"
    if data[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(data[:4], "big"), 64)
    brands = [data[start : start + 4] for start in (8, *range(16, size, 4))]
    if b"avif" in brands or b"avis" in brands:
        return ".avif"
    return ".heic" if any(brand in _HEIC for brand in brands) else None


def meaning(data: bytes) -> str:
    """Returns what a file is that cannot be read as a picture.

    Args:
        data: Content of the file.

    Returns:
        The end of a sentence that begins with "it is".

    Example:
        >>> from rcnn_jax.data.files.signatures import meaning
        >>> meaning(b"<!DOCTYPE html><title>Not found</title>")
        'a web page (HTML), not a picture, such as a server sends instead of a missing file'
    """
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(_TIFF):
        return tiff_tags.described(data)
    if instead := stand_ins.of(start):
        return _STAND_INS[instead]
    if re.search(rb"<svg\b", start):
        return "an SVG drawing, not pixels, and has to be converted"
    for first, name in _KNOWN:
        if start.startswith(first):
            return name
    if data[128:132] == b"DICM":
        return "a DICOM file, which has to be converted"
    if data and not any(data[:65536]):
        return f"{len(data):,} bytes of zeros, as an interrupted copy leaves them"
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        # A character may be cut by the end of what is looked at.
        text = start[: error.start].decode() if error.start > len(start) - 4 else ""
    if text and all(letter.isprintable() or letter.isspace() for letter in text):
        return f"a text that begins with {' '.join(text.split())[:40]!r}"
    return "of a format that is unknown"
