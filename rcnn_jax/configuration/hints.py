"""What the writer of a wrong config probably meant, for the end of an error message."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from rcnn_jax.configuration.schema import DEFAULTS, OPEN_SECTIONS

# Names that users of other libraries type.
_OTHER_NAMES = {
    "lr": "schedule.value",
    "learning_rate": "schedule.value",
    "wd": "optimizer.weight_decay",
    "dataset": "data.name",
    "num_epochs": "epochs",
    "num_steps": "steps",
    "warmup": "schedule.warmup_fraction",
}


def about_key(key: str, config: Mapping[str, Any]) -> str:
    """Suggests the key that was probably intended.

    Args:
        key: Dotted key that a config does not have.
        config: The complete config, as nested mappings.

    Returns:
        A sentence such as `did you mean 'optimizer.name'?`.
    """
    parts = key.split(".")
    if not all(parts):
        return "a key is a name, or names with dots between them, as in 'optimizer.name'."
    known = list(_leaves(config))
    last = parts[-1]
    close = [_OTHER_NAMES[last]] if last in _OTHER_NAMES else []
    same_last = [k for k in known if k.rsplit(".", 1)[-1] == last]
    near = [".".join(meant) for meant in _corrected(parts, config)]
    close += [*same_last, *near] if len(parts) == 1 else [*near, *same_last]
    close += difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    lasts = {k.rsplit(".", 1)[-1]: k for k in known}
    close += [lasts[p] for p in difflib.get_close_matches(last, lasts, n=1, cutoff=0.6)]
    if not close:
        return "the keys are " + ", ".join(sorted(config)) + ", and their own."
    inside = [k for k in known if k.startswith(f"{close[0]}.")]
    if inside:
        return f"did you mean the section {close[0]!r}, as in {inside[0]!r}?"
    return f"did you mean {close[0]!r}?"


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key)


def _corrected(
    parts: Sequence[str], node: Mapping[str, Any], above: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Yields the likeliest parts of an existing key, each the nearest to a given one."""
    part, *rest = parts
    near = [part] if part in node else _nearest(part, list(node))
    for name in near[:1]:
        meant = [*above, name]
        inside = node[name]
        if not rest:
            yield meant
        elif ".".join(meant) in OPEN_SECTIONS:
            yield [*meant, *rest]
        elif isinstance(inside, Mapping):
            yield from _corrected(rest, inside, meant)


def _nearest(word: str, names: Sequence[str]) -> list[str]:
    begins = [name for name in names if len(word) > 2 and name.startswith(word)]
    return begins + difflib.get_close_matches(word, names, n=1, cutoff=0.7)


def about_error(error: Exception) -> str:
    """Describes an error that the code of a config file has raised, as the rest of a sentence.

    The messages of `ml_collections` list whole configs over many lines; those of its errors are
    replaced.

    Args:
        error: The error, as it was caught.

    Returns:
        Text such as `raises ZeroDivisionError: division by zero.`, or, for a key that a
        `ConfigDict` does not have, `reads 'optim', which the config does not have: ...`.
    """
    trace, frame = error.__traceback__, None
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
    of_library = frame is not None and frame.f_globals.get("__name__", "").startswith(
        "ml_collections."
    )
    if frame is None or not of_library:
        text = " ".join(str(error).split()).rstrip(".")
        return f"raises {type(error).__name__}: {text}."
    values = frame.f_locals
    key = values.get("attribute", values.get("full_key", values.get("key")))
    config = values.get("self")
    if not isinstance(key, str) or not isinstance(config, ConfigDict):
        return f"raises {type(error).__name__} in {frame.f_code.co_name} of ml_collections."
    verb = "reads" if "get" in frame.f_code.co_name else "sets"
    if isinstance(error, TypeError):
        value, field = values.get("value"), values.get("field")
        return (
            f"sets {key!r} to {value!r} of type {type(value).__name__}, and its type was "
            f"{type(field).__name__}."
        )
    if key in config:
        return f"cannot set {key!r}, because it is in a {type(config).__name__}."
    missing = f"{verb} {key!r}, which the config does not have: "
    names = [name for name in config if isinstance(name, str)]
    if key in DEFAULTS and verb == "reads":
        return f"{missing}config.{key} = {{...}} adds it, a ConfigDict begins empty."
    near = _nearest(key, names) or _nearest(key, list(DEFAULTS))
    if near:
        return f"{missing}did you mean {near[0]!r}?"
    return f"{missing}it has {', '.join(sorted(names)[:12]) or 'no keys'}."
