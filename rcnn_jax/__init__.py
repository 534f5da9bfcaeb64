"""Recurrent and convolutional networks together, in JAX and Flax.

    import rcnn_jax

    run = rcnn_jax.load("runs/digits")            # a trained run, without its data set
    digits = rcnn_jax.open_source("digits", "test")

Both functions are imported when they are first used; `import rcnn_jax` alone imports nothing else.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rcnn_jax.api.data import open_source
    from rcnn_jax.api.run import load

__version__ = "0.1.0"
__all__ = ["load", "open_source"]

_MODULES = {"load": "rcnn_jax.api.run", "open_source": "rcnn_jax.api.data"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
