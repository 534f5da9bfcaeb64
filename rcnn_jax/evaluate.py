"""Evaluates a trained run on one split and writes evaluation.json into its workdir.

    python -m rcnn_jax.evaluate --workdir=runs/digits --step=best

Only the workdir and the split are needed; the command runs on any machine, on any number of devices
and without the training data. --step takes `best` (by the run's own metric on its validation split;
the latest checkpoint if it has no such split), `latest` or a number. Besides the metrics the file
holds the tables of the task, such as the error of each class and the confusion matrix, and under
`changed` the settings that the command line changed. Pictures of the examples that the tables name,
as those of captions do, are saved in WORKDIR/gallery for `python -m rcnn_jax.report` if Pillow is
installed. Keys of the config that determine how, and not what, is computed can be changed:
--config.evaluation_batch_size=64 --config.data.residency=memory --config.data.test=SPLIT.
"""

import ast
import contextlib
import io
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from rcnn_jax.configuration import loading
from rcnn_jax.errors import UsageError
from rcnn_jax.output import results, tables
from rcnn_jax.startup import doors, xla_flags

if TYPE_CHECKING:  # importing these starts jax
    from rcnn_jax.data.sources import Source
    from rcnn_jax.experiment.evaluation_run import EvaluationRun

FLAGS = flags.FlagValues()
_RUN = doors.define_evaluation_flags(FLAGS, split="test", output="evaluation.json")
_CALL = flags.DEFINE_multi_string(
    "call",
    [],
    "A further argument of the model's call, as in --call=steps=5; may be repeated.",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> int:
    """Evaluates the run, prints the metrics and writes the result.

    Args:
        argv: The command line; it is ignored, since all options are flags.

    Returns:
        The exit code 0.

    Raises:
        UserError: There is no such run, checkpoint or split, or a flag is wrong.
    """
    del argv
    path = pathlib.Path(_RUN.workdir.value)
    config: Any = loading.for_evaluation(path / "config.json", doors.overrides)
    xla_flags.apply(config.xla_flags)
    doors.quiet_libraries()
    # Imported here because the compiler's flags must be set before jax starts.
    from rcnn_jax.experiment import evaluation_run, joining
    from rcnn_jax.training.parallel import distributed

    joining.join()
    split, data_dir, call = _RUN.split.value, _RUN.data_dir.value, parse_call(_CALL.value)
    run = evaluation_run.prepare_evaluation(config, path, split, data_dir, call)
    result = examine(run, path, _RUN.step.value)
    changed = {f"config.{key}": text for key, text in doors.overrides}
    result["changed"] = changed | ({"call": dict(call)} if call else {})

    if not distributed.is_first():
        return 0
    rows = [[name, tables.number(name, value)] for name, value in result["metrics"].items()]
    print(f"{result['split']}: {result['n']} examples, step {result['step']}")
    print(tables.table(rows, ["metric", "value"]))
    for name, details in result["details"].items():
        if details and isinstance(details[0], dict):
            results.show(name, details)
    results.save(_RUN.output.value or path / "evaluation.json", result)
    save_gallery(run, path, split, data_dir, result)
    return 0


def parse_call(texts: list[str]) -> dict[str, Any]:
    """Parses additional arguments of the model's call.

    Args:
        texts: Arguments written `name=value`, each value a Python literal.

    Returns:
        The values by name of the argument.

    Raises:
        UsageError: One of the texts cannot be parsed.
    """
    call = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            call[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            equals = ""
        if not equals or not name.isidentifier():
            raise UsageError(
                f"--call={text}: an argument is written name=value, the value a number, a text in "
                "quotes, True or False; for example --call=steps=5."
            )
    return call


def evaluate(
    config: Any,
    path: pathlib.Path,
    step: str = "best",
    split: str = "test",
    data_dir: str | None = None,
    call: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint of a workdir; nothing is written.

    Args:
        config: The workdir's config; runtime keys may differ from those of the training.
        path: Workdir of the run.
        step: "best", "latest" or a number of training steps.
        split: A key of `config.data` or the name of any split.
        data_dir: Folder of the original data sets. None means the environment variable
            `RCNN_JAX_DATA` or the cache folder.
        call: Additional keyword arguments of the model's call, such as `steps`; None means none.

    Returns:
        `{"step", "split", "n", "metrics": {name: value}, "details": {name: table}}`, with the
        number of examples as `n`.

    Raises:
        UserError: There is no such checkpoint, it is damaged, or it belongs to another model.
    """
    from rcnn_jax.experiment import evaluation_run

    run = evaluation_run.prepare_evaluation(config, path, split, data_dir, call or {})
    return examine(run, path, step)


def examine(run: "EvaluationRun", path: pathlib.Path, step: str) -> dict[str, Any]:
    """Evaluates a checkpoint with an evaluation that has been prepared; nothing is written.

    Args:
        run: Evaluation from `evaluation_run.prepare_evaluation`.
        path: Workdir of the run.
        step: "best", "latest" or a number of training steps.

    Returns:
        `{"step", "split", "n", "metrics": {name: value}, "details": {name: table}}`; see
        `evaluate`.

    Raises:
        UserError: There is no such checkpoint, it is damaged, or it belongs to another model.
    """
    from rcnn_jax.experiment import evaluation_run

    restored = evaluation_run.restore_step(run, path, step)
    result = run.evaluate(restored.state.evaluated(), counts=True)
    details = run.task.details(result.counts, run.source.features) if result.counts else {}
    if result.predictions:
        details |= run.task.tables(result.predictions)
    return {
        "step": restored.step,
        "split": run.split,
        "n": result.count,
        "metrics": result.metrics,
        "details": details,
    }


def save_gallery(
    run: "EvaluationRun",
    path: pathlib.Path,
    split: str,
    data_dir: str | None,
    result: dict[str, Any],
) -> None:
    """Saves pictures of the examples that an evaluation names, and warns if that fails.

    Args:
        run: Evaluation that was computed.
        path: Workdir of the run.
        split: Split as it was requested on the command line.
        data_dir: Folder of the original data sets. None means the environment variable
            `RCNN_JAX_DATA` or the cache folder.
        result: Result of `examine`.
    """
    from rcnn_jax.report import gallery
    from rcnn_jax.training.parallel import distributed

    feature = "image"
    if feature not in run.source.features:
        feature = getattr(run.task, "inputs", feature)
    details = result["details"] if feature in run.source.features else {}

    def source() -> "Source":
        return original_examples(run, split, data_dir)

    try:
        gallery.save(path, result["split"], details, source, feature)
    except ImportError as error:
        distributed.warn(
            f"no pictures were saved for the report ({error}): pip install 'rcnn-jax[pictures]'"
        )
    except OSError as error:
        distributed.warn(f"pictures in {path / 'gallery'} were not saved: {error}")


def original_examples(run: "EvaluationRun", split: str, data_dir: str | None) -> "Source":
    """Returns a split as the data set stores it, before an encoder scaled or padded its pictures.

    Args:
        run: Evaluation that was computed.
        split: Split as it was requested on the command line.
        data_dir: Folder of the original data sets. None means the environment variable
            `RCNN_JAX_DATA` or the cache folder.

    Returns:
        The examples of the split.
    """
    from rcnn_jax.data.encoders.base import EncodedSource
    from rcnn_jax.experiment import data

    if run.encoding is None:
        return run.source
    if isinstance(run.source, EncodedSource):
        return run.source.source
    # The split was encoded as a whole and released; its warnings about damage have been printed.
    with contextlib.redirect_stderr(io.StringIO()):
        return data.open_split(run.config, split, data_dir)


if __name__ == "__main__":
    doors.run(main, FLAGS)
