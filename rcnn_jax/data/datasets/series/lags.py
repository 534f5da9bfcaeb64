"""Two generated problems with long time lags: adding and copy memory.

The answer at the end depends on inputs long before, and not on any input in between.

References:
    Hochreiter & Schmidhuber, Long short-term memory, Neural Computation 1997 (the adding problem,
    there with numbers in [-1, 1] and a target that is scaled to [0, 1]);
    Arjovsky, Shah & Bengio, Unitary evolution recurrent neural networks, ICML 2016 (both problems
    in the form they have here).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data.columns import LazyColumn
from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature

SPLITS = {"train": 50_000, "validation": 1_000, "test": 1_000}
SYMBOLS = 8
BLANK, GO = SYMBOLS, SYMBOLS + 1
COPIED = 10

Example = Mapping[str, Any]


def adding_example(draws: Draws, steps: int) -> Example:
    """Generates one sequence of the adding problem.

    Args:
        draws: Random numbers of the example.
        steps: Length T of the sequence, at least 2.

    Returns:
        `inputs` `float32[steps, 2]`: at each step a uniform random number in [0, 1), and a mark
        that is 1 at one step of the first half and one of the second, and 0 elsewhere. `target`
        `float32[]`: the sum of the two marked numbers. Its variance is 2/12, so that always
        answering 1 has a mean squared error of 0.1667.
    """
    values = draws.uniform(steps)
    half = steps // 2
    marked = [draws.below(half), half + draws.below(steps - half)]
    marks = np.zeros(steps)
    marks[marked] = 1
    return {
        "inputs": np.stack([values, marks], axis=1).astype(np.float32),
        "target": np.float32(values[marked].sum()),
    }


def copy_example(draws: Draws, lag: int) -> Example:
    """Generates one sequence of the copy memory problem.

    Args:
        draws: Random numbers of the example.
        lag: Number of steps T between the last symbol and the first answer, at least 1.

    Returns:
        `inputs` `int32[lag + 20]`: 10 symbols in 0..7, `lag - 1` blanks (8), the go signal (9) and
        10 blanks. `targets` `int32[lag + 20]`: `lag + 10` blanks and the 10 symbols. Without
        memory, the lowest mean cross-entropy of a step is `10 log(8) / (lag + 20)`.

    Example:
        >>> from rcnn_jax.data.datasets.draws import Draws
        >>> from rcnn_jax.data.datasets.series.lags import copy_example
        >>> example = copy_example(Draws(seed=0, stream=0, index=0), lag=3)
        >>> example["inputs"][10:].tolist()
        [8, 8, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]
        >>> (example["targets"][-10:] == example["inputs"][:10]).all().item()
        True
    """
    symbols = draws.integers(COPIED, SYMBOLS)
    inputs = np.full(lag + 2 * COPIED, BLANK, np.int32)
    targets = inputs.copy()
    inputs[:COPIED] = targets[-COPIED:] = symbols
    inputs[COPIED + lag - 1] = GO
    return {"inputs": inputs, "targets": targets}


def adding(steps: int, *, seed: int = 0, splits: Mapping[str, int] | None = None) -> DatasetSpec:
    """Returns the adding problem as a data set.

    Args:
        steps: Length T of every sequence, at least 2.
        seed: Seed that determines each example together with its split and index.
        splits: Number of examples by split; None: 50,000 for training, 1,000 each for validation
            and test.

    Raises:
        ValueError: `steps` is less than 2.
    """
    if steps < 2:
        raise ValueError(f"the adding problem marks two of its steps, got steps={steps}")
    return _spec(
        f"adding_{steps}",
        {"inputs": Feature((steps, 2), "float32"), "target": Feature((), "float32")},
        lambda draws: adding_example(draws, steps),
        seed,
        splits,
        f"Sums of two marked numbers out of {steps}.",
    )


def copy_memory(lag: int, *, seed: int = 0, splits: Mapping[str, int] | None = None) -> DatasetSpec:
    """Returns the copy memory problem as a data set.

    Args:
        lag: Number of steps T between the last symbol and the first answer, at least 1.
        seed: Seed that determines each example together with its split and index.
        splits: Number of examples by split; None: 50,000 for training, 1,000 each for validation
            and test.

    Raises:
        ValueError: `lag` is less than 1.
    """
    if lag < 1:
        raise ValueError(f"copy memory waits for at least 1 step, got lag={lag}")
    length = lag + 2 * COPIED
    return _spec(
        f"copy_{lag}",
        {
            "inputs": Feature((length,), "int32"),
            "targets": Feature((length,), "int32", SYMBOLS + 1),  # the symbols and the blank
        },
        lambda draws: copy_example(draws, lag),
        seed,
        splits,
        f"Ten symbols to be repeated {lag} steps later.",
    )


def _spec(
    name: str,
    features: Mapping[str, Feature],
    make: Callable[[Draws], Example],
    seed: int,
    splits: Mapping[str, int] | None,
    description: str,
) -> DatasetSpec:
    sizes = dict(SPLITS if splits is None else splits)

    def read(root: Path, split: str) -> Columns:
        del root
        stream = list(sizes).index(split)

        def column(feature: str) -> LazyColumn:
            return LazyColumn(sizes[split], lambda index: make(Draws(seed, stream, index))[feature])

        return {feature: column(feature) for feature in features}

    return DatasetSpec(
        name=name if seed == 0 else f"{name}_seed_{seed}",
        version="1.0.0",
        features=features,
        splits=sizes,
        # No file is read: prepared records depend on the source file that generates the examples.
        files=lambda root, split: [Path(__file__)],
        read=read,
        description=description,
        citation="S. Hochreiter and J. Schmidhuber. Long short-term memory. Neural Computation "
        "9(8), 1997.",
    )


ADDING_50 = adding(50)
ADDING_200 = adding(200)
ADDING_400 = adding(400)
COPY_50 = copy_memory(50)
COPY_100 = copy_memory(100)
COPY_200 = copy_memory(200)
