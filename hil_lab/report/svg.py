"""Small pieces of SVG: escaped elements, axes and their ticks; colours live in style.css."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Value = str | float | int | None


def element(name: str, *children: str, **attributes: Value) -> Markup:
    """Return an element; `class_` is class, `_` in names is `-`, None leaves an attribute out."""
    parts = [Markup("<") + name]
    for key, value in attributes.items():
        if value is not None:
            parts.append(Markup(' {}="{}"').format(_attribute(key), _text(value)))
    if not children:
        return Markup("").join(parts) + Markup("/>")
    inside = Markup("").join(escape(child) for child in children)
    return Markup("").join(parts) + Markup(">") + inside + Markup(f"</{name}>")


def _attribute(key: str) -> str:
    return key.strip("_").replace("_", "-")


def _text(value: Value) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def text(x: float, y: float, words: str, class_: str = "", anchor: str | None = None) -> Markup:
    """Return a line of text."""
    return element("text", words, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Return connected lines."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", points=path, class_=class_, fill="none")


def tip(*lines: str) -> str:
    """Return what hovering shows: a headline, then lines."""
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear map from data [low, high] to pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)

    def ticks(self, count: int = 5) -> Iterator[float]:
        """Yield about `count` round values."""
        step = _round_step((self.high - self.low) / max(count, 1))
        number = math.ceil(self.low / step - 1e-9)
        while number * step <= self.high + 1e-9 * step:
            yield round(number * step, 10)
            number += 1


def _round_step(raw: float) -> float:
    if raw <= 0 or not math.isfinite(raw):
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next((m * power for m in (1.0, 2.0, 5.0) if m * power >= 0.8 * raw), 10.0 * power)


ACCURACY_TICKS = (0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)


@dataclass(frozen=True, slots=True)
class ErrorAxis:
    """Accuracy on a logarithmic scale of the error: equal steps halve the mistakes.

    `floor` is the least error that can be told from none: half an image.
    """

    axis: Axis
    floor: float

    @classmethod
    def over(cls, accuracies: Sequence[float], samples: int, start: float, end: float) -> ErrorAxis:
        """Return an axis that shows all accuracies."""
        floor = 0.5 / max(samples, 1)
        values = [-math.log10(max(1 - a, floor)) for a in accuracies] or [0.0, 1.0]
        margin = 0.06 * ((max(values) - min(values)) or 1.0)
        return cls(Axis(min(values) - margin, max(values) + margin, start, end), floor)

    def __call__(self, accuracy: float) -> float:
        """Return the pixel of an accuracy."""
        return self.axis(-math.log10(max(1 - accuracy, self.floor)))

    def ticks(self, apart: float = 20.0) -> Iterator[float]:
        """Yield round accuracies at least `apart` pixels from each other."""
        low, high = sorted((self.axis.start, self.axis.end))
        last = math.inf
        for value in reversed(ACCURACY_TICKS):
            place = self(value)
            if low <= place <= high and abs(place - last) >= apart:
                last = place
                yield value
