"""Pictures of a user's own, as a data set of images of one size stores its examples."""

from pathlib import Path

import numpy as np

from rcnn_jax.data.spec import Feature

_MODES = {1: "L", 3: "RGB"}


def is_picture(feature: Feature) -> bool:
    """Whether a feature is an image of one size, uint8 `[height, width, 1 or 3]`."""
    shape = feature.shape
    return (
        len(shape) == 3
        and None not in shape
        and shape[-1] in _MODES
        and np.dtype(feature.dtype) == np.uint8
    )


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads a picture and brings it to a size, bilinearly; its proportions may change.

    Args:
        path: of the file.
        shape: `[height, width, channels]`, 1 channel for grey values or 3 for colours.

    Returns:
        uint8 of that shape, 0 to 255.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no picture or damaged, or Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ValueError(f"reading {path} needs Pillow ({error}): pip install pillow") from error
    height, width, channels = shape
    with path.open("rb") as file:
        try:
            with Image.open(file) as opened:
                image = ImageOps.exif_transpose(opened).convert(_MODES[channels])
        except Exception as error:  # decoders raise whatever they like
            raise ValueError(f"{path} cannot be read as a picture: {error}") from error
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)
