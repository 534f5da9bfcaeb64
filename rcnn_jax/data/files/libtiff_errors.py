"""What libtiff says while Pillow decodes a TIFF file.

libtiff prints its errors on stderr, where they stand beside the one sentence that a user gets; and
Pillow takes a file for sound although libtiff has met damage in it, such as a wrong code word of a
fax. The library's own hook for errors, `TIFFSetErrorHandler`, is reached through Pillow's module,
which is linked to it. Where it cannot be reached, errors are printed as before.
"""

import contextlib
import ctypes
import functools
import sys
import threading
from collections.abc import Iterator

_thread = threading.local()
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_LONGEST = 300


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Collects the errors of libtiff in this thread instead of printing them.

    Yields:
        A list, to which errors are added as they are met.
    """
    _install()
    before, found = getattr(_thread, "found", None), []
    _thread.found = found
    try:
        yield found
    finally:
        _thread.found = before


@_HANDLER
def _handle(module: bytes | None, form: bytes | None, arguments: int | None) -> None:
    buffer = ctypes.create_string_buffer(_LONGEST)
    # `arguments` is a C va_list, which is handed on as it came.
    ctypes.CDLL(None).vsnprintf(
        buffer, ctypes.c_size_t(_LONGEST), form or b"", ctypes.c_void_p(arguments)
    )
    text = buffer.value.decode(errors="replace").strip().rstrip(".")
    found = getattr(_thread, "found", None)
    if found is not None:
        found.append(text)
    else:
        # As libtiff does: the reader is not one of this package.
        name = f"{module.decode(errors='replace')}: " if module else ""
        print(f"{name}{text}.", file=sys.stderr, flush=True)


@functools.cache
def _install() -> None:
    from PIL import Image

    with contextlib.suppress(OSError, AttributeError):
        # Symbols are looked up in the libraries that a library is linked to, too.
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(_handle)
