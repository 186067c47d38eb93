"""The comparison of searches as one picture: best reward against measurements, a panel each.

The SVG stands by itself, with its own style, and follows light and dark mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hil_lab.bench.curves import Curve, mean_at
from hil_lab.report.svg import Axis, element, line, polyline, text

WIDTH, PANEL, LEFT, RIGHT, TOP, BOTTOM = 640.0, 280.0, 56.0, 190.0, 34.0, 40.0
LAST, FIRST = 140, 8
# Rewards so far below the best one lie below the panel.
SPAN = 1.0
ROW = 16.0
COLOURS = (
    "#0b6bcb", "#d1495b", "#3a8f5c", "#b7791f", "#7a4fb5", "#00838f", "#8d6e63", "#c2185b",
    "#5c6bc0", "#6d8b19", "#455a64", "#e65100", "#00695c",
)  # fmt: skip
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #222 } .title { font-weight: 600; font-size: 13px }
.grid { stroke: #8884; stroke-width: 1 } polyline { stroke-width: 2 } .first { stroke-width: 3 }
.spread { opacity: .13; stroke: none }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One comparison: a title, and the curves of every method over seeds, ours first."""

    title: str
    curves: Mapping[str, Sequence[Curve]]

    @property
    def top(self) -> float:
        """The best mean reward that any method found."""
        return max(mean_at(found, LAST) for found in self.curves.values())


def draw(panels: Sequence[Panel]) -> str:
    """Return the picture of some comparisons, one below the other."""
    parts = [element("style", Markup(STYLE))]
    for number, panel in enumerate(panels):
        parts += _panel(panel, number * PANEL)
    height = PANEL * len(panels)
    label = "best reward against the measurements of the board"
    return element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_label=label,
    )


def _panel(panel: Panel, above: float) -> list[Markup]:
    x = Axis(FIRST, LAST, LEFT, WIDTH - RIGHT)
    y = Axis(panel.top - SPAN, panel.top + 0.05 * SPAN, above + PANEL - BOTTOM, above + TOP)
    parts = [*_frame(x, y), text(LEFT, above + TOP - 14, panel.title, "title")]
    # Ours is drawn last, above the others.
    for place, (method, found) in reversed(list(enumerate(panel.curves.items()))):
        colour = COLOURS[place % len(COLOURS)]
        parts += _method(x, y, found, colour, first=place == 0)
        parts.append(_entry(method, found, y, above + TOP + ROW * place, colour))
    return parts


def _frame(x: Axis, y: Axis) -> list[Markup]:
    parts = []
    for value in y.ticks(5):
        parts.append(line(x.start, y(value), x.end, y(value), "grid"))
        parts.append(text(x.start - 8, y(value) + 4, f"{value:g}", "", "end"))
    for value in x.ticks(7):
        parts.append(text(x(value), y.start + 16, f"{value:g}", "", "middle"))
    middle = (x.start + x.end) / 2
    parts.append(text(middle, y.start + 32, "measurements of the board", "", "middle"))
    return parts


def _method(x: Axis, y: Axis, found: Sequence[Curve], colour: str, *, first: bool) -> list[Markup]:
    """Draw the mean over seeds as steps, and the range of seeds behind it."""
    budgets = [b for b in range(FIRST, LAST + 1) if mean_at(found, b) >= y.low]
    if not budgets:
        return []
    values = [[max(curve.at(b), y.low) for curve in found] for b in budgets]
    outline = [(x(b), y(max(v))) for b, v in zip(budgets, values, strict=True)]
    outline += [(x(b), y(min(v))) for b, v in reversed(list(zip(budgets, values, strict=True)))]
    shape = " ".join(f"{px:.1f},{py:.1f}" for px, py in outline)
    steps: list[tuple[float, float]] = []
    for budget in budgets:
        place = y(mean_at(found, budget))
        if steps and steps[-1][1] != place:
            steps.append((x(budget), steps[-1][1]))
        steps.append((x(budget), place))
    drawn = polyline(steps, "first" if first else "mean")
    return [
        element("polygon", points=shape, fill=colour, class_="spread"),
        element("g", drawn, stroke=colour),
    ]


def _entry(method: str, found: Sequence[Curve], y: Axis, place: float, colour: str) -> Markup:
    last = mean_at(found, LAST)
    words = f"{method} {last:.3f}" if last >= y.low else f"{method} {last:.1f}, below"
    left = WIDTH - RIGHT + 14
    mark = element("rect", x=left, y=place - 8, width=10, height=10, fill=colour)
    return element("g", mark, text(left + 16, place + 1, words))
