"""Draws the picture of a scene: shapes with soft edges, blotches, noise, and light from one side.

All arithmetic gives exact integers, so that a picture has the same bytes on every machine.
"""

import numpy as np

from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.datasets.shapes.stamps import LEVELS
from rcnn_jax.data.datasets.shapes.world import COLOURS, SIDE, Scene

_VALUES = {
    "red": (214, 34, 36),
    "orange": (244, 134, 20),
    "yellow": (242, 228, 60),
    "green": (40, 158, 50),
    "cyan": (70, 214, 222),
    "blue": (40, 66, 224),
    "purple": (160, 52, 196),
    "white": (240, 240, 240),
}
_FILLS = np.array([_VALUES[colour] for colour in COLOURS], np.int16)
_GREYS = (52, 100)  # range of backgrounds, between the dark colours and the bright ones
_TINT = 10  # largest deviation of a background's channel from grey
_GRAIN = 14  # largest value of the noise, which differs from pixel to pixel
_BLOTCHES = {"background": (8, 18), "fill": (4, 26)}  # (pixels between grid points, largest value)
_LIGHT = 64  # factor that leaves a value unchanged
_TILT = 12  # largest difference of the light's factor from that at a border


def _spread(step: int) -> np.ndarray:
    """Returns weights that interpolate values `step` pixels apart, `float32[64, 64 / step + 1]`."""
    position = np.arange(SIDE)[:, None] / step
    distance = np.abs(position - np.arange(SIDE // step + 1))
    return np.maximum(0, 1 - distance).astype(np.float32)


_SPREADS = {name: _spread(step) for name, (step, _) in _BLOTCHES.items()}
_PLACES = np.arange(SIDE, dtype=np.int16) - SIDE // 2


def picture(scene: Scene, draws: Draws) -> np.ndarray:
    """Draws a scene.

    Args:
        scene: Scene to draw.
        draws: Random numbers of its textures and its light.

    Returns:
        `uint8[64, 64, 3]`, red, green and blue.
    """
    low, high = _GREYS
    tint = [draws.below(2 * _TINT + 1) - _TINT for _ in range(3)]
    ground = low + draws.below(high - low + 1) + np.array(tint, np.int16)
    tilts = [draws.below(2 * _TILT + 1) - _TILT for _ in range(2)]
    canvas = ground + _blotches("background", draws)[..., None]
    texture = _blotches("fill", draws)[..., None]
    for item in scene.objects:
        part = canvas[item.window]
        fill = _FILLS[item.colour] + texture[item.window]
        # The products are at most 350 * 16, far below the maximum of int16.
        part += (fill - part) * item.stamp.coverage[..., None] // np.int16(LEVELS)
    slopes = [tilt * _PLACES // np.int16(SIDE // 2) for tilt in tilts]
    light = (_LIGHT + (slopes[0][:, None] + slopes[1]) // np.int16(2)).astype(np.int16)
    canvas = canvas * light[..., None] // np.int16(_LIGHT)
    grain = draws.integers(SIDE * SIDE, 2 * _GRAIN + 1) - _GRAIN
    canvas += grain.reshape(SIDE, SIDE, 1).astype(np.int16)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _blotches(kind: str, draws: Draws) -> np.ndarray:
    """Returns slowly varying random values, `int16[64, 64]`."""
    greatest, spread = _BLOTCHES[kind][1], _SPREADS[kind]
    grid = draws.integers(spread.shape[1] ** 2, 2 * greatest + 1) - greatest
    grid = grid.reshape(spread.shape[1], -1).astype(np.float32)
    # Weights are eighths, or quarters: every product and sum is exact in float32.
    return np.floor(spread @ grid @ spread.T).astype(np.int16)
