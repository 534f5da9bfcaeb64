"""Measures figures and draws them: the numbers go to NAME.json, the picture to NAME.png.

    python -m rcnn_jax.figures                                       lists the figures
    python -m rcnn_jax.figures gradient_norms hopfield_capacity --output=figures
    python -m rcnn_jax.figures my_fork.my_figure                     a module of your own

A figure is a module with the functions `measure` and `draw`; see rcnn_jax/figures/README.md.
Pictures need matplotlib: pip install 'rcnn-jax[figures]'; without it only the numbers are written.
"""

import importlib
import inspect
import os
import pathlib
import pkgutil
import sys
import types
from typing import Any

from absl import flags

from rcnn_jax.configuration import importing
from rcnn_jax.errors import UsageError, UserError, nearest
from rcnn_jax.output import results, tables
from rcnn_jax.output.files import write_atomically
from rcnn_jax.startup import doors

FLAGS = flags.FlagValues()
_OUTPUT = flags.DEFINE_string("output", "figures", "Folder of the files.", flag_values=FLAGS)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of all that is random in a figure.", lower_bound=0, flag_values=FLAGS
)


def main(argv: list[str]) -> int:
    """Lists the figures, or measures and draws those that are named.

    Args:
        argv: The command line: the program's name and the names of figures.

    Returns:
        The exit code 0.

    Raises:
        UsageError: There is no such figure, or the output cannot be a folder.
        UserError: A file cannot be written.
    """
    names = list(dict.fromkeys(argv[1:]))
    # The computations are small and need no accelerator, which another program may be using.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    doors.quiet_libraries()
    if not names:
        rows = [
            [name, (inspect.getdoc(module) or "").partition("\n")[0]]
            for name, module in known().items()
        ]
        print(tables.table(rows, ["figure", "what it shows"]), flush=True)
        return 0
    figures = {name: find(name) for name in names}
    folder = pathlib.Path(_OUTPUT.value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output={folder} cannot be a folder ({error.strerror}).") from error
    for name, module in figures.items():
        make(name, module, folder, _SEED.value)
    return 0


def known() -> dict[str, types.ModuleType]:
    """Returns the modules of `rcnn_jax/figures` that are figures, by name."""
    from rcnn_jax import figures

    names = [info.name for info in pkgutil.iter_modules(figures.__path__) if info.name[0] != "_"]
    modules = {name: importlib.import_module(f"{figures.__name__}.{name}") for name in names}
    return {
        name: module
        for name, module in modules.items()
        if hasattr(module, "measure") and hasattr(module, "draw")
    }


def find(name: str) -> types.ModuleType:
    """Returns the module of a figure.

    Args:
        name: Name of a file in `rcnn_jax/figures`, or the import path of a module, which has a dot.

    Returns:
        The module.

    Raises:
        UsageError: There is no such figure.
    """
    if "." in name:
        for function in ("measure", "draw"):
            importing.resolve(f"{name}:{function}", "figure")
        return sys.modules[name]
    figures = known()
    if name not in figures:
        raise UsageError(
            f"there is no figure {name!r}, and one of your own is named by its import path, as in "
            f"my_fork.my_figure: {nearest(name, figures)}."
        )
    return figures[name]


def make(name: str, module: Any, folder: pathlib.Path, seed: int) -> None:
    """Measures a figure and writes its two files.

    Args:
        name: Name of the files without suffix.
        module: Module with the functions `measure` and `draw`.
        folder: Folder of the files, which must exist.
        seed: Seed of all random numbers of the figure.

    Raises:
        UserError: A file cannot be written.
    """
    import numpy as np

    from rcnn_jax.output import picture_style

    measured = module.measure(seed=seed)
    parameters = inspect.signature(module.measure).parameters.values()
    settings = {p.name: p.default for p in parameters if p.name != "seed"}
    numbers = {key: np.asarray(values).tolist() for key, values in measured.items()}
    results.save(
        folder / f"{name}.json",
        {"figure": name, "seed": seed, "settings": settings, "measured": numbers},
    )
    path = folder / f"{name}.png"
    try:
        content = picture_style.render(module.draw, measured)
    except ImportError as error:
        print(
            f"warning: {path} was not drawn ({error}): pip install 'rcnn-jax[figures]'",
            file=sys.stderr,
        )
        return
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from error
    print(f"written to {path}", flush=True)


if __name__ == "__main__":
    doors.run(main, FLAGS, words=True)
