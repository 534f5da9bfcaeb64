"""Several views of an image, such as nine crops, that are answered for together."""

import jax


def as_images(image: jax.Array) -> tuple[jax.Array, int]:
    """Images side by side, whether or not a transform made views of them.

    Args:
        image: `[batch, height, width, channels]`, or `[batch, views, height, width, channels]`.

    Returns:
        `[batch * views, height, width, channels]`, those of an image one after the other, and the
        number of views, 1 where there are none.
    """
    if image.ndim != 5:
        return image, 1
    return image.reshape(-1, *image.shape[2:]), image.shape[1]
