"""Evaluates stored workdirs and trains them further; prints a JSON object a workdir.

    python go_on.py STORED SCRATCH NAME...

Run in a process of its own, as a user's is: with the compiler's optimizations and one device.
"""

import contextlib
import io
import json
import pathlib
import shutil
import sys

import numpy as np

from rcnn_jax import evaluate, train
from rcnn_jax.configuration import loading
from rcnn_jax.training import parameters
from rcnn_jax.training.checkpoints import reading, topology
from rcnn_jax.training.checkpoints.checksums import raw


def leaves(folder: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Every leaf of a saved state by path."""
    with reading._alone():
        tree = reading.ocp.load(folder.resolve() / str(step), checkpointable_name="state")
    return {path: np.asarray(raw(leaf)) for path, leaf in parameters.flatten(tree).items()}


def distance(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], part: str) -> float:
    """Euclidean distance of all leaves of a part of the state, relative to its norm."""
    squares = np.zeros(2)
    for path, expected in theirs.items():
        if path.startswith(part) and expected.dtype.kind == "f":
            expected = expected.astype(np.float64)
            squares += [np.sum((ours[path] - expected) ** 2), np.sum(expected**2)]
    return float(np.sqrt(squares[0] / squares[1])) if squares[1] else float(squares[0])


def go_on(stored: pathlib.Path, scratch: pathlib.Path) -> dict:
    """What a stored run evaluates to, and how far from the stored one its later state is."""
    shutil.copytree(stored, scratch)
    config = loading.from_json(scratch / "config.json")
    folder = scratch / "checkpoints"
    (at,) = reading.steps(folder)
    noted = topology.changes(reading._manifest(folder, at)["topology"])
    result = evaluate.evaluate(config, scratch, "latest", "validation")
    assert train.train(config, scratch) == 0
    theirs = dict(np.load(stored / "later.npz"))
    ours = leaves(folder, max(reading.steps(folder)))
    exact = ours.keys() == theirs.keys() and all(
        np.array_equal(ours[path], theirs[path]) for path in theirs
    )
    return {
        "name": stored.name,
        "topology": noted,
        "step": result["step"],
        "metrics": result["metrics"],
        "paths": sorted(ours.keys() ^ theirs.keys()),
        "exact": exact,
        "distances": {part: distance(ours, theirs, part) for part in ("params/", "model_state/")},
    }


if __name__ == "__main__":
    base, scratch = map(pathlib.Path, sys.argv[1:3])
    for name in sys.argv[3:]:
        with contextlib.redirect_stdout(io.StringIO()):
            line = go_on(base / name, scratch / name)
        print(json.dumps(line), flush=True)
