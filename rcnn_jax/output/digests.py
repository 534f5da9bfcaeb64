"""Digests of values that JSON can represent, for manifests and for names of cached files."""

import hashlib
import json
from typing import Any


def json_digest(value: Any, *, compact: bool = True) -> str:
    """Computes the SHA-256 digest of a value as JSON with sorted keys.

    Args:
        value: Value that JSON can represent.
        compact: Whether the JSON text has no spaces. Manifests keep the form in which they were
            first written.

    Returns:
        64 hexadecimal digits.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":") if compact else None)
    return hashlib.sha256(text.encode()).hexdigest()
