"""Predicts for the user's files with a trained run.

    python -m rcnn_jax.predict --workdir=runs/lines page1.png page2.png
    python -m rcnn_jax.predict --workdir=runs/lines --format=jsonl --n_best=5 lines/*.png
    python -m rcnn_jax.predict --workdir=runs/scenes --output=masks/ street.jpg

A file is read as the data of the run were: by the data set's reader if it has one, otherwise as a
picture of the size of the run's images. A file of features, as rcnn_jax.features writes it, holds
several pictures. The task determines what is printed: the text of a line with its confidence, a
caption, or the class of an image with its probability; --n_best=N also prints the next best
answers. --output=FILE writes the same as JSON. A task may also make files, such as masks:
--output=FOLDER/ writes them, named after the input file (street_mask.png), together with
predictions.json. Files that cannot be read are named and left out, and the exit code is then 1.
Only the workdir is needed. Files are processed in batches of similar size, and answered in order.
"""

import copy
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from rcnn_jax.configuration import loading
from rcnn_jax.errors import UsageError, UserError, about_file
from rcnn_jax.output import results, tables
from rcnn_jax.output.predicted import (
    Answer,
    Output,
    Prediction,
    about_folder,
    made_ready,
    stem_of,
)
from rcnn_jax.startup import doors, xla_flags

if TYPE_CHECKING:  # importing this starts jax
    from rcnn_jax.training.interface import Task

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/rcnn_digits", "Folder of the run.", flag_values=FLAGS
)
_STEP = flags.DEFINE_string(
    "step",
    "best",
    "Which checkpoint: best on validation, latest or a number of steps.",
    flag_values=FLAGS,
)
_FORMAT = flags.DEFINE_enum(
    "format", "table", ["table", "jsonl"], "A table, or a JSON object a line.", flag_values=FLAGS
)
_N_BEST = flags.DEFINE_integer(
    "n_best", 1, "How many answers for a file, the best first.", lower_bound=1, flag_values=FLAGS
)

_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "File for the answers, or a folder (there already, or ending in /) for them and for the files "
    "that the task makes.",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> int:
    """Predicts for the files of the command line and prints the answers.

    Args:
        argv: The command line: the program's name and the names of the files.

    Returns:
        The exit code: 0, or 1 if some of the files could not be read.

    Raises:
        UsageError: No files are named, or only folders.
        UserError: There is no such run or checkpoint, or the output cannot be written.
    """
    files = [pathlib.Path(name) for name in argv[1:]]
    if not files:
        raise UsageError("no files are named: python -m rcnn_jax.predict --workdir=DIR FILE...")
    if all(file.is_dir() for file in files):
        raise UsageError(f"{about_folder(files[0])}.")
    path = pathlib.Path(_WORKDIR.value)
    config: Any = loading.for_evaluation(path / "config.json", doors.overrides)
    xla_flags.apply(config.xla_flags)
    doors.quiet_libraries()
    # Imported here because the compiler's flags must be set before jax starts.
    from rcnn_jax.experiment import joining
    from rcnn_jax.training.parallel import distributed

    joining.join()
    output = None
    if _OUTPUT.value:
        name = _OUTPUT.value
        output = Output(name, distributed.first(lambda: made_ready(name)))
    damaged: list[str] = []

    def name_it(problem: str) -> None:
        damaged.append(problem)
        distributed.warn(f"left out: {problem}")

    predictions = predict(config, path, files, _STEP.value, _N_BEST.value, name_it, output)
    if distributed.is_first():
        rows: list[dict[str, Any]] = []
        if output is not None:
            predictions = output.written(predictions, rows)
        show = _show_lines if _FORMAT.value == "jsonl" else _show_table
        show(predictions, _N_BEST.value)
        if output is not None:
            result = {"workdir": str(path), "step": _STEP.value, "predictions": rows}
            results.save(output.answers, result, quiet=_FORMAT.value == "jsonl")
    else:
        list(predictions)
    if damaged:
        distributed.warn(f"{len(damaged)} of {len(files)} files could not be read")
    return 1 if damaged else 0


def predict(
    config: Any,
    path: pathlib.Path,
    files: Sequence[pathlib.Path],
    step: str = "best",
    n_best: int = 1,
    damaged: Callable[[str], None] | None = None,
    output: Output | None = None,
) -> Iterator[Prediction]:
    """Predicts for files; nothing is written.

    Args:
        config: The workdir's config; runtime keys may differ from those of the training.
        path: Workdir of the run.
        files: Paths of the files to predict for.
        step: "best", "latest" or a number of training steps.
        n_best: Largest number of answers for an example.
        damaged: Callback that gets a sentence for each file that cannot be read, which is then left
            out. None means that such a file is an error.
        output: Destination of the answers. The task's files are made only if it is a folder.

    Yields:
        The prediction for each file, or for each example that a file holds.

    Raises:
        UserError: There is no such checkpoint, the data set or the task cannot read files, or the
            task makes files and `output` is a single file.
        ValueError: A file cannot be read.
    """
    import numpy as np

    from rcnn_jax.data.sources import ArraySource
    from rcnn_jax.data.text.sentences import TEXT
    from rcnn_jax.experiment import by_size, evaluation_run, file_examples
    from rcnn_jax.training.parallel import distributed

    features, read = file_examples.reader(config, path)
    kept, stems, examples = [], [], []
    for file in files:
        try:
            for name, example in read(file):
                kept.append(f"{file}:{name}" if name else str(file))
                stems.append(stem_of(file, name))
                examples.append(example)
        except (OSError, ValueError) as error:
            if damaged is None:
                raise
            damaged(about_file(file, error))
    if not kept:
        return
    names = tuple(examples[0])
    columns = {name: [example[name] for example in examples] for name in names}
    if features.get("file") == TEXT:
        # Messages about an example name it.
        columns["file"] = [np.frombuffer(name.encode(), np.uint8) for name in kept]
    source = ArraySource(columns, {name: features[name] for name in columns})
    # Powers of two are sizes that other calls are likely to have; compiled programs are kept.
    rows = 1 << (len(kept) - 1).bit_length()
    config = copy.deepcopy(config)
    config.evaluation_batch_size = min(config.evaluation_batch_size, rows)
    config.data.residency = "memory"
    together = by_size.encoded_together
    run = evaluation_run.evaluation_of(config, path, source, "files", encode=together)
    task = run.task
    missing = [name for name in task.reads if name not in run.source.features]
    if missing or not task.reads:
        raise UserError(
            f"{config.task.name} {f'needs {missing[0]!r}' if missing else 'answers for no files'}: "
            f"a file of the data set {config.data.name!r} holds {', '.join(map(repr, names))}."
        )
    if task.has_files and output is None:
        distributed.warn(f"{config.task.name} makes files, too: --output=FOLDER/ writes them")
    elif task.has_files and output is not None and output.folder is None:
        raise UsageError(
            f"--output={output.answers} is a file, and {config.task.name} makes files beside its "
            f"answers: name a folder, --output={output.answers}{os.sep}"
        )
    restored = evaluation_run.restore_step(run, path, step)
    task = task.answering(n_best)

    def said(predicted: Mapping[str, Any]) -> list[tuple[list[Answer], Mapping[str, bytes]]]:
        makes_files = output is not None and task.has_files
        return list(_said(config.task.name, task, predicted, features, n_best, makes_files))

    found = by_size.predictions(run, restored.state.evaluated(), task, source, said)
    for name, stem, (answers, made) in zip(kept, stems, found, strict=True):
        yield Prediction(name, stem, answers, made)


def _said(
    name: str,
    task: "Task",
    predicted: Mapping[str, Any],
    features: Mapping[str, Any],
    n_best: int,
    makes_files: bool,
) -> Iterator[tuple[list[Answer], Mapping[str, bytes]]]:
    """Yields the answers and the files for each example of a batch.

    A task that only makes files has no answers.
    """
    examples = len(next(iter(predicted.values())))
    answers = task.answers(predicted, features, n_best) or [[]] * examples
    made = task.files(predicted, features, n_best) if makes_files else [{}] * examples
    for method, each in (("answers", answers), ("files", made)):
        if len(each) != examples:
            raise UserError(
                f"{name}: {method}() returned {len(each)} entries for a batch of {examples} "
                "examples, one for each is expected."
            )
    yield from zip(answers, made, strict=True)


def _show_lines(found: Iterator[Prediction], n_best: int) -> None:
    """Prints a JSON object per example as soon as it is known: the best answer, or all `n_best`."""
    for prediction in found:
        answers = prediction.answers
        row = {"file": prediction.name, **(answers[0] if answers else {})}
        if n_best > 1:
            row["n_best"] = answers
        print(json.dumps(results.plain(row), ensure_ascii=False), flush=True)


def _show_table(found: Iterator[Prediction], n_best: int) -> None:
    """Prints a table with a row for each answer; the file's name stands beside its best answer."""
    rows, header = [], []
    for prediction in found:
        file = prediction.name
        for rank, answer in enumerate(prediction.answers or [{}], start=1):
            header = ["file", *(["rank"] if n_best > 1 else []), *answer]
            shown = [_number(v) if isinstance(v, float) else v for v in answer.values()]
            rows.append([file if rank == 1 else "", *([rank] if n_best > 1 else []), *shown])
    if rows:
        print(tables.table(rows, header))


def _number(value: float) -> str:
    """Formats a probability; that of a whole sentence is small."""
    return f"{value:.4f}" if value == 0 or value >= 1e-3 else f"{value:.1e}"


if __name__ == "__main__":
    doors.run(main, FLAGS, words=True)
