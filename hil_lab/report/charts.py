"""The search in pictures: accuracy against cost, and how it went episode by episode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hil_lab.report.facts import FP32, INT8, Budget, Facts, Program, Search
from hil_lab.report.numbers import percent, times
from hil_lab.report.policies import summary, widths
from hil_lab.report.svg import Axis, ErrorAxis, element, line, polyline, text, tip
from host.search.episode import Episode, best, pareto
from host.types import Evaluation

WIDTH, HEIGHT = 560.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 14.0, 18.0, 50.0
AGES = 5
LABELS = {FP32: "fp32", INT8: "uniform int8"}


@dataclass(frozen=True, slots=True)
class Field:
    """Where accuracy and cost (as a share of the reference) lie on the scatter."""

    x: Axis
    y: ErrorAxis
    budget: Budget

    def place(self, accuracy: float, evaluation: Evaluation) -> tuple[float, float]:
        """Return the pixel of a program."""
        return self.x(self.budget.share(evaluation)), self.y(accuracy)


def scatter(facts: Facts, search: Search) -> Markup:
    """Draw every episode of a target with the Pareto front, the target and the references."""
    budget = facts.budget
    if not search.episodes or budget is None:
        return Markup("")
    marks = [p for p in facts.programs if p.target in (None, search.target)]
    field = _field(search, marks, budget)
    parts = [*_scatter_frame(field, search.target), *_front(field, search.episodes)]
    wide = widths(facts)
    for episode in search.episodes:
        parts.append(_dot(field, episode, len(search.episodes), wide))
    parts += [_mark(field, program) for program in marks]
    return _svg(parts, f"accuracy against {budget.cost.name} of {len(search.episodes)} episodes")


def _svg(parts: Iterable[Markup], label: str) -> Markup:
    box = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    return element("svg", *parts, viewBox=box, role="img", aria_label=label)


def _field(search: Search, marks: Sequence[Program], budget: Budget) -> Field:
    accuracies = [e.evaluation.accuracy for e in search.episodes] + [m.validation for m in marks]
    evaluations = [e.evaluation for e in search.episodes] + [m.evaluation for m in marks]
    most = max(budget.share(evaluation) for evaluation in evaluations)
    samples = max(e.evaluation.samples for e in search.episodes)
    return Field(
        Axis(0.0, 1.06 * max(most, 1.0), LEFT, WIDTH - RIGHT),
        ErrorAxis.over(accuracies, samples, HEIGHT - BOTTOM, TOP),
        budget,
    )


def _scatter_frame(field: Field, target: float) -> list[Markup]:
    bottom, parts = HEIGHT - BOTTOM, []
    for value in field.y.ticks():
        y = field.y(value)
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, "grid"))
        parts.append(text(LEFT - 8, y + 4, f"{100 * value:g} %", "tick", "end"))
    for value in field.x.ticks(6):
        x = field.x(value)
        parts.append(line(x, TOP, x, bottom, "grid"))
        parts.append(text(x, bottom + 18, times(value, 1), "tick", "middle"))
    x = field.x(target)
    parts.append(line(x, TOP, x, bottom, "target"))
    parts.append(text(x + 5, bottom - 7, f"target {times(target)}", "target-name"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(middle, HEIGHT - 8, _axis_name(field.budget), "axis", "middle"))
    parts.append(text(0, 11, "validation accuracy", "axis"))
    return parts


def _axis_name(budget: Budget) -> str:
    return f"{budget.cost.name}, of the fp32 reference"


def _front(field: Field, episodes: Sequence[Episode]) -> list[Markup]:
    corners: list[tuple[float, float]] = []
    for episode in pareto(episodes, field.budget.cost):
        x, y = field.place(episode.evaluation.accuracy, episode.evaluation)
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    corners.append((WIDTH - RIGHT, corners[-1][1]))
    return [polyline(corners, "front")]


def _dot(field: Field, episode: Episode, total: int, wide: dict[str, int]) -> Markup:
    x, y = field.place(episode.evaluation.accuracy, episode.evaluation)
    age = min(AGES * episode.number // max(total, 1), AGES - 1)
    lines = [*_figures(episode, field.budget), *summary(episode.policy, wide)]
    return element(
        "circle",
        cx=x,
        cy=y,
        r=4.6,
        class_=f"episode age{age}",
        data_episode=episode.number,
        data_tip=tip(*lines),
    )


def _figures(episode: Episode, budget: Budget) -> list[str]:
    e = episode.evaluation
    ratio = times(budget.share(e), 3)
    expected = " expected" if e.accuracy_source == "expected" else ""
    return [
        f"episode {episode.number + 1}",
        f"reward {episode.reward:.4f}",
        f"{percent(e.accuracy)}{expected} of {e.samples} validation images",
        f"{budget.words(e)} = {ratio} ({e.verdict})",
    ]


def _mark(field: Field, program: Program) -> Markup:
    e = program.evaluation
    x, y = field.place(program.validation, e)
    name = LABELS.get(program.name, "chosen")
    kind = "reference" if program.name in LABELS else "chosen"
    lines = [
        name,
        f"{percent(program.validation)} on validation after the final training",
        f"{field.budget.words(e)} = {times(field.budget.share(e), 3)}",
    ]
    left = x > WIDTH - 60 if kind == "reference" else x > LEFT + 70
    label = text(
        x + (-11 if left else 11),
        y + 4,
        name.removeprefix("uniform "),
        "name",
        "end" if left else "start",
    )
    diamond = f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z"
    shape = element("path", d=diamond, data_tip=tip(*lines), tabindex=0)
    return element("g", shape, label, class_=f"mark {kind}")


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity of the learning curve; `scale` maps its value to pixels."""

    name: str
    value: Callable[[Episode], float]
    scale: Axis | ErrorAxis
    ticks: tuple[tuple[float, str], ...]


def curves(facts: Facts, search: Search) -> Markup:
    """Draw reward, accuracy and cost by episode, each with that of the best so far."""
    budget = facts.budget
    if not search.episodes or budget is None:
        return Markup("")
    x = Axis(1, max(facts.recipe.search.episodes, 2), LEFT, WIDTH - RIGHT - 4)
    panels = _panels(search.episodes, budget)
    parts: list[Markup] = []
    for panel in panels:
        parts += _panel(panel, x, search.episodes, budget)
    ratio = panels[2].scale(search.target)
    parts.append(line(LEFT, ratio, WIDTH - RIGHT, ratio, "target"))
    for value in x.ticks(6):
        parts.append(text(x(value), HEIGHT - BOTTOM + 18, f"{value:g}", "tick", "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "episode", "axis", "middle"))
    return _svg(parts, f"reward, accuracy and {budget.cost.name} by episode")


def _panels(episodes: Sequence[Episode], budget: Budget) -> tuple[Panel, Panel, Panel]:
    def ratio(e: Episode) -> float:
        return budget.share(e.evaluation)

    height = (HEIGHT - TOP - BOTTOM - 2 * 38) / 3
    tops = [TOP + 4 + n * (height + 38) for n in range(3)]
    rewards = [e.reward for e in episodes]
    margin = 0.06 * ((max(rewards) - min(rewards)) or 1.0)
    reward = Axis(min(rewards) - margin, max(rewards) + margin, tops[0] + height, tops[0])
    samples = max(e.evaluation.samples for e in episodes)
    accuracies = [e.evaluation.accuracy for e in episodes]
    error = ErrorAxis.over(accuracies, samples, tops[1] + height, tops[1])
    most = 1.05 * max(ratio(e) for e in episodes)
    cost = Axis(0.0, max(most, 1.0), tops[2] + height, tops[2])
    return (
        Panel("reward", lambda e: e.reward, reward, _labels(reward, "{:g}")),
        Panel(
            "validation accuracy",
            lambda e: e.evaluation.accuracy,
            error,
            tuple((t, f"{100 * t:g} %") for t in error.ticks()),
        ),
        Panel(_axis_name(budget), ratio, cost, _labels(cost, "{:.1f}\u00d7")),
    )


def _labels(axis: Axis, pattern: str) -> tuple[tuple[float, str], ...]:
    return tuple((t, pattern.format(t)) for t in axis.ticks(4))


def _panel(panel: Panel, x: Axis, episodes: Sequence[Episode], budget: Budget) -> list[Markup]:
    top = panel.scale.axis.end if isinstance(panel.scale, ErrorAxis) else panel.scale.end
    parts = [text(LEFT, top - 7, panel.name, "panel")]
    for value, label in panel.ticks:
        y = panel.scale(value)
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, "grid"))
        parts.append(text(LEFT - 8, y + 4, label, "tick", "end"))
    leader: list[tuple[float, float]] = []
    for count in range(1, len(episodes) + 1):
        y = panel.scale(panel.value(best(episodes[:count])))
        if leader and leader[-1][1] != y:
            leader.append((x(count), leader[-1][1]))
        leader.append((x(count), y))
    parts.append(polyline(leader, "leader"))
    return parts + [_step(panel, x, episode, budget) for episode in episodes]


def _step(panel: Panel, x: Axis, episode: Episode, budget: Budget) -> Markup:
    return element(
        "circle",
        cx=x(episode.number + 1),
        cy=panel.scale(panel.value(episode)),
        r=2.8,
        class_="step",
        data_episode=episode.number,
        data_tip=tip(*_figures(episode, budget)),
    )
