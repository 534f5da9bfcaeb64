"""What the tasks that give an image probabilities of named things share."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from rcnn_jax.tasks.base import BaseTask, Batch, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTask(BaseTask):
    """Gives each class or label of an image a probability.

    A batch has `image` `[batch, height, width, channels]`, `mask` `[batch]` (0 for padding) and
    what `label` names. A transform may turn each image into several views `[batch, views, height,
    width, channels]`, which are answered for together.

    Attributes:
        label: Name of the feature that holds what is true of an image.
        answer: What an answer is called in a table for people.
    """

    label: str
    unit: str = "images"
    answer: ClassVar[str]

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Initialises the model for images of the size that the transforms give."""
        return self._initial(key, self._training_batch(batch, key)["image"])

    def _evaluated_images(self, batch: Batch) -> tuple[jax.Array, int]:
        """The images that the model is to see in evaluation.

        Returns:
            `[batch * views, height, width, channels]`, the views of an image one after the other,
            and the number of views, 1 where the transforms make none.
        """
        image = self.evaluation_transform(batch, None)["image"]
        if image.ndim != 5:
            return image, 1
        return image.reshape(-1, *image.shape[2:]), image.shape[1]

    @property
    def reads(self) -> tuple[str, ...]:
        """An image."""
        return ("image",)

    def answers(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> list[list[dict[str, Any]]]:
        """See `BaseTask.answers`: what `answer` names and `probability`, the most probable."""
        probabilities = np.asarray(predicted["probabilities"])
        names = self._names(features, probabilities.shape[-1])
        return [
            [
                {self.answer: names[number], "probability": float(row[number])}
                for number in np.argsort(-row, kind="stable")[:n_best].tolist()
            ]
            for row in probabilities
        ]

    def _names(self, features: Mapping[str, Any], number: int) -> tuple[str, ...]:
        """What the data set calls so many classes or labels, or else their numbers."""
        names = features[self.label].names if self.label in features else ()
        return names if len(names) == number else tuple(map(str, range(number)))
