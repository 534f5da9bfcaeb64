"""What version control and servers leave in the place of a file."""

import re

GIT_LFS, GIT_ANNEX, PAGE = "git lfs", "git annex", "page"

_ANNEX = re.compile(rb"[^\n]{0,200}annex/objects/")
_PAGE = re.compile(rb"<(!doctype html|html|head|body|title|script)\b", re.IGNORECASE)


def of(start: bytes) -> str:
    """Returns what stands in the place of a file, if anything does.

    Args:
        start: The beginning of the file, at least its first 64 bytes or all of it.

    Returns:
        `GIT_LFS` or `GIT_ANNEX` for a pointer of either, `PAGE` for a page in HTML such as a server
        sends instead of a missing file, or an empty string.

    Example:
        >>> from rcnn_jax.data.files import stand_ins
        >>> stand_ins.of(b"version https://git-lfs.github.com/spec/v1") == stand_ins.GIT_LFS
        True
    """
    start = start[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"version https://git-lfs"):
        return GIT_LFS
    if _ANNEX.match(start):
        return GIT_ANNEX
    return PAGE if _PAGE.match(start) else ""
