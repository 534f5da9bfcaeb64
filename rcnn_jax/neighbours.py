"""Captions each picture with a sentence of the most similar training picture, as a baseline.

    python -m rcnn_jax.neighbours --workdir=runs/captions --data_dir=DATA

The command uses the data, the vocabulary and the metrics of a captioning run, but no checkpoint.
For each picture of the split it finds the nearest picture of the training split, by the cosine
between the vectors that the model reads, or between blurred pictures without their mean if the
model reads pixels. The first sentence of that training picture is compared with the picture's own
sentences. The result is also written to neighbours.json in the workdir. The training split is
needed.

Reference:
    Devlin, Gupta, Girshick, Mitchell & Zitnick, Exploring nearest neighbor approaches for image
    captioning, 2015.
"""

import pathlib
from typing import Any

import numpy as np
from absl import flags

from rcnn_jax.configuration import loading
from rcnn_jax.errors import UserError
from rcnn_jax.output import results, tables
from rcnn_jax.startup import doors

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string("workdir", "runs/captions", "Folder of the run.", flag_values=FLAGS)
_SPLIT = flags.DEFINE_string(
    "split", "test", "train, validation or test, or any split's name.", flag_values=FLAGS
)
_DATA_DIR = doors.define_data_dir(FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", None, "File for the result; WORKDIR/neighbours.json.", flag_values=FLAGS
)
_CELLS = 16  # cells of a blurred picture along each side
_ROWS = 1024  # pictures compared at a time


def main(argv: list[str]) -> int:
    """Measures the baseline and prints its metrics.

    Args:
        argv: The command line; it is ignored, since all options are flags.

    Returns:
        The exit code 0.

    Raises:
        UserError: The run is not a captioning run, or a split is missing.
    """
    del argv
    path = pathlib.Path(_WORKDIR.value)
    config: Any = loading.for_evaluation(path / "config.json", doors.overrides)
    doors.quiet_libraries()
    result = measure(config, path, _SPLIT.value, _DATA_DIR.value)
    print(f"{result['split']}: {result['n']} pictures, each with a sentence of the nearest of "
          f"{result['among']} training pictures")  # fmt: skip
    rows = [[name, tables.number(name, value)] for name, value in result["metrics"].items()]
    print(tables.table(rows, ["metric", "value"]))
    results.save(_OUTPUT.value or path / "neighbours.json", result)
    return 0


def measure(
    config: Any, path: pathlib.Path, split: str = "test", data_dir: str | None = None
) -> dict[str, Any]:
    """Measures captions that are copied from the nearest training pictures; nothing is written.

    Args:
        config: The workdir's config; runtime keys may differ from those of the training.
        path: Workdir of the captioning run.
        split: A key of `config.data` or the name of any split.
        data_dir: Folder of the original data sets. None means the environment variable
            `RCNN_JAX_DATA` or the cache folder.

    Returns:
        `{"split", "n", "among", "metrics": {name: value}}`, with the number of captioned pictures
        as `n` and the number of training pictures as `among`.

    Raises:
        UserError: The run is not a captioning run, a split is missing, or the vector of a picture
            has NaN or infinity.
    """
    # Imported here because importing jax takes a second, which a mistyped flag need not wait for.
    from rcnn_jax.experiment import data, evaluation_run
    from rcnn_jax.tasks.captioning import Captioning

    run = evaluation_run.prepare_evaluation(config, path, split, data_dir, {})
    task = run.task
    if not isinstance(task, Captioning) or run.encoding is None:
        raise UserError(f"--workdir={path} is a run of {config.task.name}, not of captioning.")
    training = run.encoding.wrap(data.open_split(config, "train", data_dir))
    asked, references, features = _read(run.source, task, run.split)
    known, answers, _ = _read(training, task, "train")
    captions = []
    for start in range(0, len(asked), _ROWS):
        for place in np.argmax(asked[start : start + _ROWS] @ known.T, axis=1):
            captions.append(answers[place][0])
    return {
        "split": run.split,
        "n": len(captions),
        "among": len(known),
        "metrics": task.measure(captions, references, features),
    }


def _read(
    source: Any, task: Any, split: str
) -> tuple[np.ndarray, list[list[str]], dict[str, np.ndarray]]:
    """Returns vectors of unit length, sentences and judged features of all readable examples."""
    vectors, sentences, columns = [], [], {}
    for row in range(len(source)):
        example = source[row]
        if not example.get("mask", 1):
            continue
        value = np.asarray(example[task.inputs], np.float32)
        if not np.isfinite(value).all():
            # It would be the nearest of every picture, or have the first one as its nearest.
            raise UserError(
                f"{task.inputs!r} of example {row} of {split} has NaN or infinity, so that nothing "
                "is near to it: repair the file that holds it, or leave the example out."
            )
        vectors.append(_blurred(value) if value.ndim == 3 else value)
        sentences.append(task.said_of(example))
        for name, value in task.further(example).items():
            columns.setdefault(name, []).append(value)
    if not vectors:
        raise UserError("none of the examples could be read.")
    table = np.stack(vectors)
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    return table, sentences, {name: np.stack(values) for name, values in columns.items()}


def _blurred(image: np.ndarray) -> np.ndarray:
    """Averages a picture over 16 x 16 cells (fewer for smaller pictures) and subtracts the mean."""
    for axis in (0, 1):
        size = image.shape[axis]
        edges = np.linspace(0, size, min(_CELLS, size) + 1).astype(int)
        image = np.add.reduceat(image, edges[:-1], axis=axis)
        shape = [1, 1, 1]
        shape[axis] = -1
        image = image / np.diff(edges).reshape(shape)
    return (image - image.mean(axis=(0, 1))).ravel()


if __name__ == "__main__":
    doors.run(main, FLAGS)
