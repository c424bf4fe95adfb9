"""Charts as inline SVG: distance against speed, and over steps, with the interval of every point drawn."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 20.0, 20.0, 55.0
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
NUM_COLOURS = 6  # Defined in the style sheet, light and dark.


@dataclass
class Point:
    """One row of a comparison in a chart.

    Attributes:
        series: the system, whose points are joined by a line.
        x, y: position; low, high: interval of y, or None.
        text: what is said about the point.
    """

    series: str
    x: float
    y: float
    low: float | None
    high: float | None
    text: str


@dataclass
class Axis:
    """Where numbers lie on a line of pixels.

    Attributes:
        low, high: numbers at its ends; start, end: pixels there.
        logarithmic: equal ratios, not equal differences, are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """The pixel of a number."""
        scale: Callable[[float], float] = math.log10 if self.logarithmic else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers within the axis."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            candidates = [mantissa * 10.0**power for power in powers for mantissa in (1, 2, 5)]
        else:
            rough = (self.high - self.low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
            first = math.ceil(self.low / step)
            candidates = [step * (first + index) for index in range(12)]
        return [value for value in candidates if self.low <= value * (1 + 1e-9) and value <= self.high * (1 + 1e-9)]


def fitting_axis(values: Sequence[float], start: float, end: float, logarithmic: bool = False) -> Axis:
    """An axis on which all values have room."""
    low, high = min(values), max(values)
    if logarithmic:
        margin = max((high / low) ** 0.08, 2.0 if low == high else 1.2)
        return Axis(low / margin, high * margin, start, end, True)
    margin = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    return Axis(low - margin, high + margin, start, end)


def chart(points: Sequence[Point], title: str, x_label: str, y_label: str) -> str:
    """An SVG element; x is logarithmic. Every point can be reached by keyboard and says its numbers."""
    x_axis = fitting_axis([point.x for point in points], LEFT, WIDTH - RIGHT, logarithmic=True)
    reach = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    y_axis = fitting_axis(reach, HEIGHT - BOTTOM, TOP)
    series = list(dict.fromkeys(point.series for point in points))
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="group" aria-label="{escape(title)}">',
        *_grid(x_axis, y_axis, x_label, y_label),
    ]
    for index, name in enumerate(series):
        own = sorted((point for point in points if point.series == name), key=lambda point: point.x)
        parts += _series(own, index, x_axis, y_axis)
    return "\n".join([*parts, "</svg>"])


def legend_mark(index: int) -> str:
    """The mark of a series, to stand beside its name."""
    colour = f"c{index % NUM_COLOURS}"
    return f'<svg class="mark {colour}" viewBox="0 0 16 16" aria-hidden="true">{_mark(index, 8.0, 8.0)}</svg>'


def _grid(x_axis: Axis, y_axis: Axis, x_label: str, y_label: str) -> list[str]:
    parts = []
    for value in x_axis.ticks():
        x = x_axis.place(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    for value in y_axis.ticks():
        y = y_axis.place(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>'
    )
    upright = f'<text class="upright" transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">'
    parts.append(f"{upright}{escape(y_label)}</text>")
    return parts


def _series(points: Sequence[Point], index: int, x_axis: Axis, y_axis: Axis) -> list[str]:
    places = [(x_axis.place(point.x), y_axis.place(point.y)) for point in points]
    parts = [f'<g class="c{index % NUM_COLOURS}">']
    if len(points) > 1:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}"/>')
    for point, (x, y) in zip(points, places, strict=True):
        text = escape(point.text, quote=True)
        parts.append(f'<g class="point" tabindex="0" role="img" aria-label="{text}" data-text="{text}">')
        if point.low is not None and point.high is not None:
            low, high = y_axis.place(point.low), y_axis.place(point.high)
            parts.append(f'<path class="interval" d="M{x:.1f} {low:.1f}V{high:.1f}m-5 0h10M{x - 5:.1f} {low:.1f}h10"/>')
        parts += [_mark(index, x, y), f"<title>{text}</title></g>"]
    return [*parts, "</g>"]


def _mark(index: int, x: float, y: float) -> str:
    shape = SHAPES[index % len(SHAPES)]
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    outlines = {
        "square": "M-5.5 -5.5h11v11h-11z",
        "triangle": "M0 -7L6.5 5.5H-6.5z",
        "diamond": "M0 -7.5L7.5 0L0 7.5L-7.5 0z",
        "cross": "M-6 -2h4v-4h4v4h4v4h-4v4h-4v-4h-4z",
    }
    return f'<path transform="translate({x:.1f} {y:.1f})" d="{outlines[shape]}"/>'
