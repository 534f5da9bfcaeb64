"""What the tasks that give an example probabilities of named things share."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from rcnn_jax.tasks.base import Batch, PyTree
from rcnn_jax.tasks.inputs import InputTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTask(InputTask):
    """Gives each class or label of an image, or of another input, a probability.

    A batch has what `inputs` names, such as images `[batch, height, width, channels]`, clips
    `[batch, time, height, width, channels]` or vectors `[batch, time, size]`; `mask` `[batch]` (0
    for padding); and what `label` names. An evaluation transform with the attribute `makes_views`
    turns each input into several `[batch, views, ...]`, which are answered for together; where the
    model is called with lengths, it gives a length to each view, `[batch, views]`.

    Attributes:
        inputs: Name of the feature that the model reads.
        label: Name of the feature that holds what is true of an example.
        answer: What an answer is called in a table for people.
    """

    inputs: str = "image"
    label: str
    unit: str = "images"
    answer: ClassVar[str]

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Initialises the model for inputs of the shape that the transforms give."""
        inputs, arguments = self.model_inputs(self.training_batch(batch, key))
        return self.init_model(key, inputs, **arguments)

    def evaluated_images(self, batch: Batch) -> tuple[jax.Array, dict[str, Any], int]:
        """What the model is called with in evaluation. Pure, inside jit.

        Args:
            batch: Leaves `[batch, ...]`, as the data set stores them.

        Returns:
            The input of the model `[batch * views, ...]`, the views of an example one after the
            other; further arguments of its call by name; and the number of views, 1 where the
            transforms make none.

        Raises:
            ValueError: Views and what the transform says of them differ.
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
        """What `inputs` names; its lengths are made by an encoder."""
        return (self.inputs,)

    def answers(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> list[list[dict[str, Any]]]:
        """See `BaseTask.answers`: what `answer` names and `probability`, the most probable."""
        probabilities = np.asarray(predicted["probabilities"])
        names = self.class_names(features, probabilities.shape[-1])
        return [
            [
                {self.answer: names[number], "probability": float(row[number])}
                for number in np.argsort(-row, kind="stable")[:n_best].tolist()
            ]
            for row in probabilities
        ]

    def class_names(self, features: Mapping[str, Any], number: int) -> tuple[str, ...]:
        """What classes or labels are called in `answers` and `details`.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name, as the data set stores them.
            number: How many classes or labels there are.

        Returns:
            Their names; their numbers where the data set has no names.
        """
        names = features[self.label].names if self.label in features else ()
        return names if len(names) == number else tuple(map(str, range(number)))
