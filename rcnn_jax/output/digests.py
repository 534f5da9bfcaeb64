"""One digest of what JSON can hold, for manifests, and for names of what is kept on disk."""

import hashlib
import json
from typing import Any


def json_digest(value: Any, *, compact: bool = True) -> str:
    """The SHA-256 of a value as JSON with sorted keys, 64 hexadecimal digits.

    Args:
        value: What JSON can hold.
        compact: Whether the text has no spaces. Manifests keep the form they were first written in.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":") if compact else None)
    return hashlib.sha256(text.encode()).hexdigest()
