"""Atomic writing: a file is complete or absent, even after a kill or a power cut."""

import os
import pathlib
import tempfile


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old content or the new content, never a part.

    Args:
        path: Path of the file.
        content: Whole content. Text is encoded as UTF-8.

    Raises:
        OSError: The file cannot be written; the old file is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)  # mkstemp's 0600 would make the file unreadable to other users
        os.replace(partial, path)
    except BaseException:
        pathlib.Path(partial).unlink(missing_ok=True)
        raise
