"""Writes a page about a run: what was trained, curves, evaluations and pictures.

    python -m rcnn_jax.report --workdir=runs/digits
    python -m rcnn_jax.report --workdir=runs/sweep --output=sweep.html

The page is a single file, WORKDIR/report.html: it loads nothing, runs no script and can be sent to
anybody. It is made from files in the workdir alone and at any time, also while training continues:
config.json, metrics.jsonl, the results of `evaluate` and `iterations`, and the pictures in
gallery/. For the folder of a sweep the page compares the variants.
"""

import pathlib

from absl import flags

from rcnn_jax.errors import UserError
from rcnn_jax.output.files import write_atomically
from rcnn_jax.startup import doors

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/rcnn_digits", "Folder of the run, or of a sweep.", flag_values=FLAGS
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "File for the page; WORKDIR/report.html unless given.", flag_values=FLAGS
)


def main(argv: list[str]) -> int:
    """Writes the page.

    Args:
        argv: The command line; it is ignored, since all options are flags.

    Returns:
        The exit code 0.

    Raises:
        UserError: The folder holds neither a run nor a sweep, or the page cannot be written.
    """
    del argv
    folder = pathlib.Path(_WORKDIR.value)
    output = pathlib.Path(_OUTPUT.value or folder / "report.html")
    text = report(folder)
    try:
        write_atomically(output, text)
    except OSError as error:
        raise UserError(
            f"{output} cannot be written ({error.strerror}); name another file with --output."
        ) from error
    print(f"written to {output}")
    return 0


def report(folder: pathlib.Path) -> str:
    """Makes the page of a run or of a sweep.

    Args:
        folder: Workdir of the run, or folder of the sweep.

    Returns:
        The HTML text of the page.

    Raises:
        UserError: The folder holds neither a run nor a sweep.
    """
    # Here and not above: NumPy and the templates, which --help needs none of.
    from rcnn_jax.report import page, sweep_page

    if not folder.is_dir():
        raise UserError(f"--workdir={folder} is no folder.")
    make = sweep_page.make if (folder / "sweep.json").is_file() else page.make
    text = make(folder)
    if not text:
        raise UserError(
            f"--workdir={folder} holds no run: there is no config.json, metrics.jsonl or "
            "evaluation.json, and no sweep.json."
        )
    return text


if __name__ == "__main__":
    doors.run(main, FLAGS)
