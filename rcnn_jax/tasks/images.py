"""Tasks that assign probabilities to named classes or labels of an example."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from rcnn_jax.tasks.base import Batch, PyTree
from rcnn_jax.tasks.inputs import InputTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTask(InputTask):
    """Assigns a probability to each class or label of an image, or of another input.

    A batch has the feature that `inputs` names, such as images `[batch, height, width, channels]`,
    clips `[batch, time, height, width, channels]` or vectors `[batch, time, size]`; `mask`
    `[batch]` (0 for padding); and the feature that `label` names. An evaluation transform with the
    attribute `makes_views` turns each input into several views, `[batch, views, ...]`, which get
    one common answer. Where the model's call takes lengths, such a transform also gives one to each
    view, `[batch, views]`.

    Attributes:
        inputs: Name of the feature that the model reads.
        label: Name of the feature that holds the truth about an example.
        answer: Key of the name in an answer, such as "class".
    """

    inputs: str = "image"
    label: str
    unit: str = "images"
    answer: ClassVar[str]

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Initialises the model for inputs of the shape that the training transforms produce.

        Args:
            key: Random key for the transforms and the initial parameters.
            batch: Dict of arrays `[batch, ...]` as the data set stores them.

        Returns:
            A pair (params, model_state).
        """
        inputs, arguments = self.model_inputs(self.training_batch(batch, key))
        return self.init_model(key, inputs, **arguments)

    def evaluated_images(self, batch: Batch) -> tuple[jax.Array, dict[str, Any], int]:
        """Returns the arguments of the model's call in evaluation. Pure, inside jit.

        Args:
            batch: Dict of arrays `[batch, ...]` as the data set stores them.

        Returns:
            The input of the model `[batch * views, ...]`, where the views of an example are
            adjacent; a dict of further arguments of its call; and the number of views, 1 where the
            transforms make none.

        Raises:
            ValueError: The shapes disagree with what the transform says about views.
        """
        before = batch[self.inputs].ndim
        inputs, arguments = self.model_inputs(self.evaluation_transform(batch, None))
        if not getattr(self.evaluation_transform, "makes_views", False):
            if (before, inputs.ndim) == (4, 5):
                raise ValueError(
                    f"the evaluation transforms make {self.inputs!r} of shape "
                    f"{list(inputs.shape)} from {list(batch[self.inputs].shape)}: one that makes "
                    "several views of each example has the attribute `makes_views = True`."
                )
            return inputs, arguments, 1
        if inputs.ndim != before + 1:
            raise ValueError(
                "a transform of config.data.evaluate has the attribute makes_views, and the "
                f"transforms make {self.inputs!r} of shape {list(inputs.shape)} from "
                f"{list(batch[self.inputs].shape)}: views are one axis more, [batch, views, ...]."
            )
        views = inputs.shape[1]
        for name, values in arguments.items():
            if values.shape[:2] != inputs.shape[:2]:
                raise ValueError(
                    f"a transform of config.data.evaluate makes {views} views of each example, and "
                    f"{name} of shape {list(values.shape)} belong to no view: it must give some to "
                    "each, [batch, views]."
                )
        flat = {name: v.reshape(-1, *v.shape[2:]) for name, v in arguments.items()}
        return inputs.reshape(-1, *inputs.shape[2:]), flat, views

    @property
    def reads(self) -> tuple[str, ...]:
        """The feature that `inputs` names; an encoder makes its lengths."""
        return (self.inputs,)

    def answers(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> list[list[dict[str, Any]]]:
        """Returns the most probable classes or labels; see `BaseTask.answers`.

        Args:
            predicted: Arrays that `predict` returned, with `probabilities` `[batch, classes]`.
            features: Mapping from the name of each feature, as the data set stores it, to its
                `rcnn_jax.data.spec.Feature`.
            n_best: Largest number of answers for each example.

        Returns:
            For each example a list of dicts with the name of a class or label, under the key that
            `answer` holds, and its `probability`, the most probable first. A probability that is
            NaN comes before all others.
        """
        probabilities = np.asarray(predicted["probabilities"])
        names = self.class_names(features, probabilities.shape[-1])
        return [
            [
                {self.answer: names[number], "probability": float(row[number])}
                for number in _order(row)[:n_best].tolist()
            ]
            for row in probabilities
        ]

    def class_names(self, features: Mapping[str, Any], number: int) -> tuple[str, ...]:
        """Returns the names of classes or labels for `answers` and `details`.

        Args:
            features: Mapping from the name of each feature, as the data set stores it, to its
                `rcnn_jax.data.spec.Feature`.
            number: Number of classes or labels.

        Returns:
            The data set's names, or the indices as text where it has no names.
        """
        names = features[self.label].names if self.label in features else ()
        return names if len(names) == number else tuple(map(str, range(number)))


def _order(probabilities: np.ndarray) -> np.ndarray:
    """Returns the positions of the values in descending order, NaN first."""
    # NumPy sorts NaN behind every number, where the best answers would hide it.
    return np.argsort(np.where(np.isnan(probabilities), -np.inf, -probabilities), kind="stable")
