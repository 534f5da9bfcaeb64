"""Line charts as SVG inside a page, with round numbers at the axes and gaps at NaN values."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

from rcnn_jax.output.picture_style import COLOURS
from rcnn_jax.output.tables import is_number
from rcnn_jax.report.markup import Markup, element, joined

Point = tuple[float, float | None]

DECADES = 2.0  # positive values that span this many decades are drawn on a logarithmic axis
MARKED = 120  # curves of more points have no marks, which show their values on hovering

_WIDTH, _HEIGHT = 480.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 12.0, 10.0, 42.0
_DASHES = (None, "6 3", "2 3", "8 3 2 3")


@dataclasses.dataclass(frozen=True)
class Series:
    """A curve of a chart.

    Attributes:
        name: Name in the legend; several curves of one name share an entry.
        points: Points (x, y) with increasing x; a y of None, NaN, infinity or too large a value is
            a gap.
        style: Number that selects the colour, and beyond the number of colours the dash pattern.
        marked: Whether each point has a mark.
    """

    name: str
    points: Sequence[Point]
    style: int = 0
    marked: bool = False


@dataclasses.dataclass(frozen=True)
class Axis:
    """A mapping from values to positions along one direction.

    Attributes:
        low: Value at the start of the axis.
        high: Value at the end of the axis, larger than `low`.
        ticks: Round values between `low` and `high`.
        logarithmic: Whether equal distances are equal factors.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Returns how far a value lies between the start and the end of the axis, from 0 to 1.

        Args:
            value: Value on the axis; positive if the axis is logarithmic.
        """
        if self.logarithmic:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(value) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(low: float, high: float, *, widened: bool = True, most: int = 6) -> Axis:
    """Makes an axis with ticks at multiples of 1, 2 or 5 times a power of ten.

    Args:
        low: Smallest value.
        high: Largest value.
        widened: Whether the axis begins and ends at a tick; otherwise it begins at `low` and ends
            at `high`.
        most: Approximate number of ticks.

    Returns:
        The axis.
    """
    greatest = max(abs(low), abs(high))
    if high - low <= 1e-12 * greatest or greatest < 1e-200:
        # The values are equal within the resolution of an axis: they are drawn in the middle.
        span = abs(low) / 2 if greatest > 1e-12 else 0.5
        low, high = low - span, low + span
    raw = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((f * power for f in (1, 2, 5) if f * power >= raw * (1 - 1e-9)), 10 * power)
    slack = 1e-9 * step
    if widened:
        low = math.floor((low + slack) / step) * step
        high = math.ceil((high - slack) / step) * step
    first, last = math.ceil((low - slack) / step), math.floor((high + slack) / step)
    return Axis(low, high, tuple(number * step for number in range(first, last + 1)))


def logarithmic_axis(low: float, high: float) -> Axis:
    """Makes an axis with ticks at powers of ten, and at 2 and 5 times these if there is room.

    Args:
        low: Smallest value, above 0.
        high: Largest value, above `low`.

    Returns:
        The axis.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    # At most about seven ticks.
    apart = max(1, math.ceil((last - first) / 7))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = (f * 10.0**power for power in range(first, last + 1, apart) for f in factors)
    return Axis(low, high, tuple(t for t in ticks if low <= t <= high), logarithmic=True)


def value_axis(values: Sequence[float]) -> Axis:
    """Makes the axis that suits the values: logarithmic if they are positive and span decades.

    Args:
        values: Finite values, at least one.

    Returns:
        The axis; a linear one begins at 0 if the values are not far from it.
    """
    low, high = min(values), max(values)
    # With a tolerance for rounding: 0.3 / 0.003 is below 100 in floating point.
    if low > 0 and math.log10(high) - math.log10(low) >= DECADES - 1e-9:
        return logarithmic_axis(low, high)
    return linear_axis(0.0 if 0 < low <= high / 2 else low, high)


def label(value: float, percent: bool = False) -> str:
    """Formats the value of a tick.

    Args:
        value: Value to format.
        percent: Whether the value is a share to be shown in percent.

    Returns:
        The value with thousands separators; very small and very large ones in scientific notation.
    """
    if percent:
        return f"{label(100 * value)} %"
    if value and not 1e-4 <= abs(value) < 1e7:
        digits, _, power = f"{value:.10e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:,.10g}"


def line_chart(
    title: str, series: Sequence[Series], x_label: str, *, percent: bool = False
) -> Markup:
    """Draws curves.

    Args:
        title: Title of the chart.
        series: Curves to draw.
        x_label: Label of the x axis.
        percent: Whether y values are shares to be shown in percent.

    Returns:
        A `<figure>` element; without curves and with a sentence instead if no value is finite.
    """
    caption = element("figcaption", title)
    finite = [y for one in series for run in _runs(one.points) for _, y in run]
    if not finite:
        return element("figure", caption, element("p", "No value is a number.", class_="faint"))
    xs = [x for one in series for x, _ in one.points]
    across = linear_axis(min(0.0, *xs), max(xs), widened=False)
    up = value_axis(finite)
    curves = joined(_curve(one, across, up, percent, x_label) for one in series)
    drawing = element(
        "svg",
        _grid(across, up, x_label, percent),
        curves,
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        role="img",
        aria_label=title,
    )
    return element("figure", caption, drawing, _legend(series))


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.share(value) * (_WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - axis.share(value) * (_HEIGHT - _TOP - _BOTTOM)


def _grid(across: Axis, up: Axis, x_label: str, percent: bool) -> Markup:
    parts, floor, right = [], _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for tick in up.ticks:
        y = _y(up, tick)
        parts.append(element("path", d=f"M{_LEFT:g} {y:.1f}H{right:g}", class_="grid"))
        text = label(tick, percent)
        parts.append(element("text", text, x=_LEFT - 6, y=f"{y + 4:.1f}", text_anchor="end"))
    parts.append(element("path", d=f"M{_LEFT:g} {_TOP:g}V{floor:g}H{right:g}", class_="grid"))
    for tick in across.ticks:
        x = _x(across, tick)
        parts.append(element("path", d=f"M{x:.1f} {floor:g}v4", class_="grid"))
        # A centred label of the last tick would leave the picture.
        anchor = "end" if x > right - 12 else "middle"
        parts.append(element("text", label(tick), x=f"{x:.1f}", y=floor + 17, text_anchor=anchor))
    middle = (_LEFT + right) / 2
    parts.append(element("text", x_label, x=f"{middle:g}", y=_HEIGHT - 6, text_anchor="middle"))
    return joined(parts)


def _runs(points: Sequence[Point]) -> Iterator[list[tuple[float, float]]]:
    """Yields the runs of consecutive points between gaps."""
    run: list[tuple[float, float]] = []
    for x, y in points:
        if is_number(y):
            run.append((x, float(y)))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _curve(own: Series, across: Axis, up: Axis, percent: bool, x_label: str) -> Markup:
    runs = list(_runs(own.points))
    places = [[f"{_x(across, x):.1f} {_y(up, y):.1f}" for x, y in run] for run in runs]
    path = "".join("M" + "L".join(run) for run in places)
    parts = [element("path", d=path, class_="curve", stroke_dasharray=_dashes(own.style))]
    every = own.marked and sum(map(len, runs)) <= MARKED
    for run, placed in zip(runs, places, strict=True):
        # A single point between gaps has no line, so it needs a mark.
        if every or len(run) == 1:
            for (x, y), place in zip(run, placed, strict=True):
                left, down = place.split()
                hover = element("title", f"{own.name}, {x_label} {label(x)}: {_told(y, percent)}")
                parts.append(element("circle", hover, cx=left, cy=down, r=2.5, class_="dot"))
    return element("g", *parts, class_=_class(own.style))


def _told(y: float, percent: bool) -> str:
    return label(float(f"{y:.4g}"), percent)


def _class(style: int) -> str:
    return f"c{style % len(COLOURS)}"


def _dashes(style: int) -> str | None:
    return _DASHES[style // len(COLOURS) % len(_DASHES)]


def _legend(series: Sequence[Series]) -> Markup:
    styles = {one.name: one.style for one in series}
    entries = []
    for name, style in styles.items():
        line = element("path", d="M0 6H30", class_="curve", stroke_dasharray=_dashes(style))
        sample = element("svg", line, viewBox="0 0 30 12", class_=_class(style), aria_hidden="true")
        entries.append(element("span", sample, name))
    return element("div", *entries, class_="legend")
