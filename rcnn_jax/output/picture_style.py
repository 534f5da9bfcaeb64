"""Common style of figures: size, fonts, and colours that colour-blind people can distinguish.

References:
    Okabe & Ito, Color universal design: how to make figures and presentations that are friendly to
    colorblind people, 2008 (the colours).
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Markers that accompany the colours, for prints in black and white."""

_SIZE = (6.4, 4.2)  # inches
_DOTS_PER_INCH = 150
_STYLE = {
    "font.size": 11,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def render(
    draw: Callable[[Any, Mapping[str, np.ndarray]], None], measured: Mapping[str, np.ndarray]
) -> bytes:
    """Draws a figure.

    Args:
        draw: Function that draws `measured` on the axes that it is called with.
        measured: Arrays by name.

    Returns:
        The figure as a PNG file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    # Imported here, because it is an optional dependency that numbers alone do not need.
    import matplotlib  # pyright: ignore[reportMissingImports]
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    with matplotlib.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw(figure.add_subplot(), measured)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=_DOTS_PER_INCH)
    return content.getvalue()
