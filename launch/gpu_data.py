"""CIFAR-10 for `gpu.py`: the original binary files as arrays, and which part is tested on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from rcnn_jax.data import catalog
from rcnn_jax.errors import UsageError, UserError

IMAGES = 50_000


@dataclasses.dataclass(frozen=True)
class Data:
    """Images to train on and images to be evaluated on.

    Attributes:
        train: `image` uint8 [images, 32, 32, 3] and `label` int32 [images].
        test: The same of those that are evaluated.
        about: Which they are, for the results.
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
        folder: That holds them, or a folder above; None: where `RCNN_JAX_DATA` says.
        images: How many training images are used, the first ones.
        validation: Evaluate on the last fifth of those, train on the others, and leave the test
            images alone.
        test_exact: How many test images are evaluated, the first ones; None: all.

    Raises:
        UserError: A file is missing or damaged, or there are fewer images.
        UsageError: Test images are asked for and left alone at once.
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
