"""What is measured: rows, each a piece of work, and sides, each a way to do it.

A file in `rows/` states a list `ROWS`. It imports neither jax nor torch: a side names the function
that sets it up as text, and only the process that runs the side imports that.
"""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from rcnn_jax.errors import UsageError, nearest

FOLDER = pathlib.Path(__file__).resolve().parent / "rows"


class AbsentError(Exception):
    """A side cannot be had on this machine; the message is one clause that says why."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A side that is ready to run, as the function that sets it up returns it.

    Attributes:
        run: does the work once, and returns when all of it is computed. Its first call compiles.
        answers: what the first call computed, name -> array or -> {name: array}. Sides that give
            an answer of the same name must agree on it.
        work: how much one call does, in `unit`; 0 where nobody asks.
        unit: such as `images` or `GFLOP`.
        settings: what the side says of the way it works, such as the precision of its products.
    """

    run: Callable[[], object]
    answers: Callable[[], Mapping[str, np.ndarray | Mapping[str, np.ndarray]]] | None = None
    work: float = 0.0
    unit: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to do the work of a row.

    Attributes:
        name: as the table shows it.
        set_up: `module:function`, a module of this folder. The function is called with `folder`,
            a temporary one in which the first side of a row leaves weights for the others, and
            with the arguments of the side, of the point and of a quick look; it returns a
            `Prepared`.
        arguments: keyword arguments of that function.
        ours: whether it is this project's, so that its time is what ratios divide.
        imports: what is imported before memory is looked at for the first time.
        config: name of a shipped config whose compiler flags are set; empty for none.
        quick: arguments of this side that stand in place of the row's `quick`, if it has its own.
        commit: commit of this repository whose package and whose module of this folder run, to
            measure what has changed since; empty for the working tree.
    """

    name: str
    set_up: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ours: bool = False
    imports: tuple[str, ...] = ()
    config: str = ""
    quick: Mapping[str, Any] | None = None
    commit: str = ""


BEFORE = "a20cca2"
"""The last commit without compiled kernels whose figures are in the README."""


def before(side: Side) -> Side:
    """The same side as it was at `BEFORE`, which ratios divide by."""
    return dataclasses.replace(side, name=BEFORE, ours=False, commit=BEFORE)


@dataclasses.dataclass(frozen=True)
class Target:
    """Bounds of a ratio ours / other, lower is better.

    Attributes:
        against: names of sides; the fastest of them counts.
        must: what has to be reached.
        aim: what would be good.
    """

    against: tuple[str, ...]
    must: float
    aim: float


@dataclasses.dataclass(frozen=True)
class Row:
    """A piece of work, measured by several sides in turn.

    Attributes:
        name: as the command line names it.
        about: one line.
        sides: the first leaves its weights for the others.
        targets: bounds of ratios, if there are any.
        points: measured one after the other, each with further arguments, such as `{"steps": 3}`;
            where they differ in one number, its effect is fitted.
        quick: arguments that make the row tiny, for checking that it works.
        usual: whether it is measured when no row is named.
        compares: `seconds` of the same work; the `rate` of sides that do different work, as a
            share of the first one's; or `compile`, what the first call in a new process takes
            beyond later ones.
        tolerance: largest relative L2 distance of answers that count as the same; None: that of
            float32 on a CPU.
    """

    name: str
    about: str
    sides: tuple[Side, ...]
    targets: tuple[Target, ...] = ()
    points: tuple[Mapping[str, Any], ...] = ({},)
    quick: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    usual: bool = True
    compares: str = "seconds"
    tolerance: float | None = None

    def __post_init__(self):
        names = [side.name for side in self.sides]
        if len(set(names)) < len(names):
            raise ValueError(f"row {self.name}: two sides have one name, in {names}")
        if self.compares not in ("seconds", "rate", "compile"):
            raise ValueError(
                f"row {self.name}: compares={self.compares!r} is none of seconds, rate, compile"
            )
        for target in self.targets:
            for name in target.against:
                if name not in names:
                    raise ValueError(
                        f"row {self.name}: a target is against {name!r}: {nearest(name, names)}"
                    )


def discover(folder: pathlib.Path = FOLDER) -> dict[str, Row]:
    """All rows, by name, in the order of files and of their lists.

    Args:
        folder: each of its files `*.py` states a list `ROWS`.

    Raises:
        ValueError: two rows have one name, or a file states none.
    """
    rows: dict[str, Row] = {}
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"benchmark_rows_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not getattr(module, "ROWS", None):
            raise ValueError(f"{path} states no list ROWS")
        for row in module.ROWS:
            if row.name in rows:
                raise ValueError(f"{path}: there are two rows called {row.name!r}")
            rows[row.name] = row
    return rows


def select(patterns: Sequence[str], rows: Mapping[str, Row]) -> list[Row]:
    """The rows that are asked for, each once, in their own order.

    Args:
        patterns: names, or patterns such as `rcnn_train_*`; empty for the usual rows.
        rows: all there are.

    Raises:
        UsageError: a pattern matches no row.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in rows):
            raise UsageError(f"there is no row {pattern!r}: {nearest(pattern, rows)}.")
    return [
        row
        for row in rows.values()
        if (any(fnmatchcase(row.name, p) for p in patterns) if patterns else row.usual)
    ]
