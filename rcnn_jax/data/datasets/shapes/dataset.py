"""The world of shapes as a data set."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data.columns import LazyColumn
from rcnn_jax.data.datasets.shapes import drawing
from rcnn_jax.data.datasets.shapes.captions import CAPTIONS, MOST_MENTIONS, Caption, captions
from rcnn_jax.data.datasets.shapes.kinds import KINDS, kinds_present
from rcnn_jax.data.datasets.shapes.questions import question
from rcnn_jax.data.datasets.shapes.world import MOST, SHAPES, SIDE, BlockDraws, Scene, scene
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.data.text.sentences import TEXT

SPLITS = {"train": 20_000, "validation": 1_000, "test": 2_000}
FEATURES = {
    "image": Feature((SIDE, SIDE, 3), "uint8"),
    "labels": Feature((SIDE, SIDE), "uint8", ("background", *SHAPES), role="label_map"),
    "objects": Feature((MOST, 6), "int32"),
    "present": Feature((len(KINDS),), "uint8", entries=KINDS),
    "boxes": Feature((MOST, 4), "float32", role="relative_boxes"),
    "mentions": Feature((CAPTIONS, MOST_MENTIONS, 3), "int32"),
    "held_out": Feature((), "int32"),
    "captions": TEXT,
    "question": TEXT,
    "answer": TEXT,
    "file": TEXT,
}
"""Features of an example.

`image`: red, green and blue. `labels`: class of what is visible at each pixel, 0 for background,
then `SHAPES`. `objects`: one row for each object from back to front, with its shape, colour and
size, row and column of its centre, and the row in this table of the object that it partly hides, -1
for none; rows of -1 after the last. `present`: 1 for each of `kinds.KINDS` that is true, else 0.
`boxes`: y0, x0, y1, x1 of the visible part of each object, in 0..1; zeros after the last.
`captions`: five captions, one a line. `mentions`: for each caption rows of first word, last word
and object; rows of -1 after the last. `question` and `answer`: words. `held_out`: 1 where the
scene has a pair of shape and colour of `world.HELD_OUT`, which training and validation never have
and every second test scene has, else 0. `file`: name of the scene.
"""

Example = dict[str, np.ndarray]


def object_table(shown: Scene) -> np.ndarray:
    """Returns the feature `objects` of a scene, `int32[6, 6]`.

    Args:
        shown: Scene of at most six objects.
    """
    table = np.full((MOST, 6), -1, np.int32)
    for row, item, back in zip(table, shown.objects, shown.hides, strict=False):
        row[:] = item.shape, item.colour, item.size, item.y, item.x, -1 if back is None else back
    return table


def visible_boxes(shown: Scene) -> np.ndarray:
    """Returns the feature `boxes` of a scene, `float32[6, 4]`.

    Args:
        shown: Scene of at most six objects.
    """
    boxes = np.zeros((MOST, 4), np.float32)
    for index, item in enumerate(shown.objects):
        rows, columns = item.window
        seen = shown.owners[rows, columns] == index + 1
        down, right = seen.any(axis=1).nonzero()[0], seen.any(axis=0).nonzero()[0]
        boxes[index] = (
            rows.start + down[0],
            columns.start + right[0],
            rows.start + down[-1] + 1,
            columns.start + right[-1] + 1,
        )
    return boxes / np.float32(SIDE)


def mention_table(said: Sequence[Caption]) -> np.ndarray:
    """Returns the feature `mentions` of captions, `int32[5, 6, 3]`.

    Args:
        said: The five captions of a scene.
    """
    table = np.full((CAPTIONS, MOST_MENTIONS, 3), -1, np.int32)
    for rows, caption in zip(table, said, strict=True):
        rows[: len(caption.mentions)] = caption.mentions
    return table


def example(seed: int, split: str, index: int) -> Example:
    """Generates a scene with its captions, question and labels; see `FEATURES`.

    Args:
        seed: Seed of the data set.
        split: `train`, `validation` or `test`.
        index: Index of the example within its split.

    Returns:
        A dict from the name of each feature to its array.
    """
    draws = BlockDraws(seed, list(SPLITS).index(split), index)
    shown = scene(draws, held_out=split == "test" and index % 2 == 1)
    sentences = captions(shown, draws)
    asked, answer = question(shown, draws)
    kinds = np.array([0, *(item.shape + 1 for item in shown.objects)], np.uint8)
    texts = {
        "captions": "\n".join(caption.text for caption in sentences),
        "question": asked,
        "answer": answer,
        "file": f"{split}-{index:05d}",
    }
    return {
        "image": drawing.picture(shown, draws),
        "labels": kinds[shown.owners],
        "objects": object_table(shown),
        "present": kinds_present(shown),
        "boxes": visible_boxes(shown),
        "mentions": mention_table(sentences),
        "held_out": np.array(shown.held_out, np.int32),
        **{name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()},
    }


class _Examples:
    """The examples of a split, each of which is generated on first access and kept.

    The operating system allocates memory of an empty array only when it is written to, so that
    examples that are not accessed take none.
    """

    def __init__(self, seed: int, split: str, size: int) -> None:
        self.size = size
        self._seed, self._split = seed, split
        self._arrays: dict[str, Any] = {}
        for name, feature in FEATURES.items():
            shape: Any = (size, *feature.shape)
            varies = None in shape
            self._arrays[name] = [None] * size if varies else np.empty(shape, feature.dtype)
        self._made = np.zeros(size, bool)

    def value(self, name: str, index: int) -> np.ndarray:
        """Returns a read-only feature of an example."""
        if not self._made[index]:
            for feature, value in example(self._seed, self._split, index).items():
                self._arrays[feature][index] = value
            self._made[index] = True
        value = np.asarray(self._arrays[name][index])
        value.flags.writeable = (
            False  # of this view, so that callers cannot change the stored array
        )
        return value


def shapes_world(*, seed: int = 0, splits: Mapping[str, int] | None = None) -> DatasetSpec:
    """Returns the world of shapes as a data set; see `FEATURES`.

    Args:
        seed: Seed that determines each scene together with its split and index.
        splits: Number of scenes of `train`, `validation` and `test`; None: `SPLITS`.

    Raises:
        ValueError: There is a split of another name.
    """
    sizes = dict(SPLITS if splits is None else splits)
    if not set(sizes) <= set(SPLITS):
        raise ValueError(
            f"the world of shapes has the splits {', '.join(SPLITS)}, got {', '.join(sizes)}"
        )

    def read(root: Path, split: str) -> Columns:
        del root
        examples = _Examples(seed, split, sizes[split])
        return {
            name: LazyColumn(examples.size, functools.partial(examples.value, name))
            for name in FEATURES
        }

    return DatasetSpec(
        name="shapes_world" if seed == 0 else f"shapes_world_seed_{seed}",
        version="1.1.0",
        features=FEATURES,
        splits=sizes,
        # No file is read: prepared records depend on the source files that generate the scenes.
        files=lambda root, split: sorted(Path(__file__).parent.glob("*.py")),
        read=read,
        description="Made-up scenes of coloured shapes with sentences, regions, questions and "
        "pixel labels.",
    )


SHAPES_WORLD = shapes_world()
# The first training scenes and the other splits are those of SHAPES_WORLD.
LARGE_SHAPES_WORLD = dataclasses.replace(
    shapes_world(splits={**SPLITS, "train": 60_000}), name="shapes_world_large"
)
