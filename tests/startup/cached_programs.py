"""Runs something with the cache of compiled programs on, and says what was compiled.

    python cached_programs.py FOLDER MAX_BYTES [flags of train...]

FOLDER is that of the cache, `default` or `off`. With flags it trains; without, it runs two small
programs. The last line of its output is a JSON object: `folder`, how often jax asked its compiler
(`programs`), how many of these it took from the cache (`hits`), and how many it put there
(`misses`); `result` holds the numbers of the small programs.
"""

import collections
import json
import os
import sys

from rcnn_jax import train
from rcnn_jax.configuration import environment
from rcnn_jax.startup import compilation_cache, doors

folder, max_bytes = sys.argv.pop(1), int(sys.argv.pop(1))
if folder == "off":
    os.environ[environment.COMPILATION_CACHE] = "0"
folder = None if folder in ("default", "off") else folder


def small_programs() -> list[float]:
    import jax
    import jax.numpy as jnp

    def one(x):
        return jnp.sin(x) @ jnp.cos(x)

    def other(x):
        return jnp.cumsum(jnp.exp(x))

    x = jnp.linspace(0.0, 1.0, 7)
    return [float(jax.jit(one)(x)), *map(float, jax.jit(other)(x))]


def main(argv: list[str]) -> int:
    import jax

    seen = collections.Counter()
    jax.monitoring.register_event_listener(lambda event, **_: seen.update([event]))
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: seen.update([event])
    )
    place = compilation_cache.enable(folder, max_bytes=max_bytes)
    training = any(flag.startswith("--config") for flag in COMMAND)
    code, result = (train.main(argv), None) if training else (0, small_programs())
    said = {
        "folder": place,
        "programs": seen["/jax/core/compile/backend_compile_duration"],
        "hits": seen["/jax/compilation_cache/cache_hits"],
        "misses": seen["/jax/compilation_cache/cache_misses"],
        "result": result,
    }
    print(json.dumps(said))
    return code


COMMAND = list(sys.argv)
doors.run(main, train.FLAGS)
