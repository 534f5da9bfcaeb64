"""Files that are either there in full or not at all, even after a kill or a power cut."""

import os
import pathlib
import tempfile


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file; a reader sees the old one or the new one, never half.

    Args:
        path: The file.
        content: Its whole content; text is written as UTF-8.

    Raises:
        OSError: It cannot be written; the old file is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)  # mkstemp's 0600 would hide the workdir from colleagues
        os.replace(partial, path)
    except BaseException:
        pathlib.Path(partial).unlink(missing_ok=True)
        raise
