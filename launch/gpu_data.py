"""Reads CIFAR-10 for `gpu.py` from the original binary files, and selects the evaluated images."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from rcnn_jax.data import catalog
from rcnn_jax.errors import UsageError, UserError

IMAGES = 50_000


@dataclasses.dataclass(frozen=True)
class Data:
    """Images to train on and images to evaluate on.

    Attributes:
        train: Training images `image` `uint8[images, 32, 32, 3]` and their labels `label`
            `int32[images]`.
        test: Evaluated images and labels in the same arrays.
        about: Description of the selected images for the results.
    """

    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]
    about: Mapping[str, Any]


def read(
    folder: str | None,
    *,
    images: int = IMAGES,
    validation: bool = False,
    test_exact: int | None = None,
) -> Data:
    """Reads the files.

    Args:
        folder: Folder that holds the files, or one above; None means the environment variable
            `RCNN_JAX_DATA` or the cache folder.
        images: Number of training images to use, from the first one on.
        validation: Whether to evaluate on the last fifth of these images and train on the others;
            the test images are not used then.
        test_exact: Number of test images to evaluate on, from the first one on; None means all.

    Returns:
        The images.

    Raises:
        UserError: A file is missing or damaged, or there are fewer images.
        UsageError: Both `validation` and `test_exact` are given.
    """
    if validation and test_exact is not None:
        raise UsageError("--test_exact is of the test images, which --validation leaves alone.")
    kept = images - images // 5
    train, evaluated = f"train[:{images}]", "test" if test_exact is None else f"test[:{test_exact}]"
    if validation:
        train, evaluated = f"train[:{kept}]", f"train[{kept}:{images}]"
    try:
        learnt, held = _columns(train, folder), _columns(evaluated, folder)
    except (FileNotFoundError, ValueError) as error:
        text = str(error).replace("--data_dir", "--data").rstrip(".")
        raise UserError(f"{text}.") from error
    about = {"train": train, "evaluated": evaluated, "images_evaluated": len(held["label"])}
    return Data(learnt, held, about)


def _columns(split: str, folder: str | None) -> Mapping[str, np.ndarray]:
    source = catalog.open_source("cifar10", split, folder, residency="memory")
    return source.gather(np.arange(len(source)))
