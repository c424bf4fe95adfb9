"""Where the marks of a chart stand: a measure over speed or steps with the interval of every point. `chart.svg` draws
them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

SHAPES = (  # A circle, a square, a triangle, a diamond and a cross, so that no reader depends on colours.
    "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z",
    "M-5.5 -5.5h11v11h-11z",
    "M0 -7L6.5 5.5H-6.5z",
    "M0 -7.5L7.5 0L0 7.5L-7.5 0z",
    "M-6 -2h4v-4h4v4h4v4h-4v4h-4v-4h-4z",
)
NUM_COLOURS = 6  # Defined in the style sheet, light and dark.


@dataclass
class Point:
    """One row of the results in a chart.

    Attributes:
        series: the system, whose points are joined by a line.
        x, y: position; low, high: interval of y, or None.
        text: what is said about the point; label: a word beside it.
    """

    series: str
    x: float
    y: float
    low: float | None
    high: float | None
    text: str
    label: str = ""


@dataclass
class Axis:
    """Where numbers lie on a line of pixels, with some room around them.

    Attributes:
        values: all that must have room.
        start, end: pixels at its ends.
        logarithmic: equal ratios, not equal differences, are equally far apart.
    """

    values: Sequence[float]
    start: float
    end: float
    logarithmic: bool = False

    def __post_init__(self) -> None:
        low, high = (self._scale(extreme(self.values)) for extreme in (min, max))
        least = math.log10(2.0 if low == high else 1.2) if self.logarithmic else 0.0
        margin = max(0.08 * (high - low), least) or abs(high) * 0.1 or 1.0
        self._low, self._high = low - margin, high + margin

    def place(self, value: float) -> float:
        """The pixel of a number, to a tenth."""
        share = (self._scale(value) - self._low) / (self._high - self._low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[tuple[str, float]]:
        """Round numbers within the axis, each with its pixel."""
        if self.logarithmic:
            powers = range(math.floor(self._low), math.ceil(self._high) + 1)
            candidates = [mantissa * 10.0**power for power in powers for mantissa in (1, 2, 5)]
        else:
            rough = (self._high - self._low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
            candidates = [step * (math.ceil(self._low / step) + index) for index in range(12)]
        within = [value for value in candidates if self._low <= self._scale(value) <= self._high]
        return [(f"{value:.6g}", self.place(value)) for value in within]

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


@dataclass
class Chart:
    """A measure over something else, whose axis is logarithmic; all places are in pixels.

    Attributes:
        title, x_label, y_label, caption: what is said of it.
        points: where they are told to stand.
        real: the measure of real music, a line across the chart.
    """

    title: str
    x_label: str
    y_label: str
    caption: str
    points: Sequence[Point]
    real: float | None = None
    width, height = 720, 380
    left, right, top, bottom = 70.0, 700.0, 20.0, 325.0

    def __post_init__(self) -> None:
        reach = [value for one in self.points for value in (one.y, one.low, one.high) if value is not None]
        reach += [] if self.real is None else [self.real]
        x = Axis([one.x for one in self.points], self.left, self.right, logarithmic=True)
        y = Axis(reach, self.bottom, self.top)
        self.x_ticks, self.y_ticks = x.ticks(), y.ticks()
        self.ceiling = None if self.real is None else y.place(self.real)
        self.series: list[tuple[int, list[Point]]] = []
        for index, name in enumerate(dict.fromkeys(one.series for one in self.points)):
            own = sorted((one for one in self.points if one.series == name), key=lambda one: one.x)
            placed = []
            for one in own:
                low, high = (None if value is None else y.place(value) for value in (one.low, one.high))
                placed.append(replace(one, x=x.place(one.x), y=y.place(one.y), low=low, high=high))
            self.series.append((index, placed))
