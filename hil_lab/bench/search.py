"""Searches against each other: what each finds with how many measurements of the board.

Every trial is kept in a folder and read from there when it is complete, so that the comparison can
be made over many sittings. Traces alone are enough to print it again: those behind docs/results.md
are in docs/trials, `hil-lab bench search --out docs/trials`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hil_lab.bench.curves import (
    BUDGETS,
    Curve,
    accuracy_within,
    best_step,
    front,
    lead,
    mean_at,
    reached,
)
from hil_lab.bench.heldout import HeldOut, held_out, shows
from hil_lab.bench.methods import METHODS, SHARES, methods
from hil_lab.bench.picture import Panel, draw
from hil_lab.bench.report import Options, Report, Show, Table, number
from hil_lab.bench.trace import Trace, present
from hil_lab.bench.trials import Contest, Trial, trials
from host.errors import CallerError

NETWORKS = ("resnet20", "resnet56", "digits-vit")
SEEDS = (1, 2, 3)
OURS, RIVAL = "ours", "galen-joint"
DEFAULT_FOLDER = "runs/bench-search"
MEASUREMENTS_BAR, EVALUATIONS_BAR = 0.1, 1 / 3

# A front of so many measurements is held against three of Galen's searches, one for each target.
FRONT_MEASUREMENTS = 60
FRONT_OURS, FRONT_RIVAL = "ours-three-targets", "galen-short"
# Latencies this near are equal.
EQUAL_RATIO = 0.01

# method -> target -> seed -> curve
Curves = Mapping[str, Mapping[float, Mapping[int, Curve]]]
Kept = tuple[Trial, Trace]


def report(options: Options) -> Report:
    """Run what is missing of the trials, and compare them."""
    networks = list(options.networks) or list(NETWORKS)
    for name in networks:
        if name not in NETWORKS:
            raise CallerError(f"{name} is not one of {', '.join(NETWORKS)}")
    folder = Path(options.folder or DEFAULT_FOLDER)
    found = [_network(name, folder, options) for name in networks]
    parts = [part for part, _ in found]
    return Report(
        samples={"networks": [part.samples["network"] for part in parts]},
        tables=[table for part in parts for table in part.tables],
        shows=[show for part in parts for show in part.shows],
        missing=[sentence for part in parts for sentence in part.missing],
        picture=_picture([panel for _, panels in found for panel in panels]),
    )


def _picture(panels: Sequence[Panel]) -> str:
    shown = [panel for panel in panels if panel.curves]
    return draw(shown) if shown else ""


def _network(name: str, folder: Path, options: Options) -> tuple[Report, list[Panel]]:
    contest = Contest(name, folder, options.overrides, options.reporter)
    chosen = methods(options.methods)
    found: dict[str, list[Kept]] = {method.name: [] for method in chosen}
    for trial in trials([name], chosen, options.seeds or SEEDS):
        found[trial.method.name].append((trial, contest.trace(trial)))
    compared = [method.name for method in chosen if method.shares == SHARES]
    curves = {method: _curves(contest, found[method]) for method in compared}
    traces = [trace for kept in found.values() for _, trace in kept]
    figures = {trial.seed: held_out(contest, trial) for trial, _ in found.get(OURS, ())}
    surrogates = [one for one in figures.values() if one]
    part = Report(
        samples={"network": _samples(name, traces[0].reference_ms, curves, surrogates)},
        tables=[_table(name, target, curves) for target in SHARES],
        shows=[
            *(show for target in SHARES for show in _shows(name, target, curves)),
            *(shows(name, surrogates) if surrogates else ()),
            *_front_shows(name, contest, found),
        ],
        missing=[
            *([] if figures else [f"{name}: figures of our search, which was not chosen"]),
            *(
                f"{name}: held-out figures of seed {seed}, of which only the trace is kept"
                for seed, one in figures.items()
                if not one
            ),
            *_older(name, traces),
        ],
    )
    return part, [_panel(name, target, curves) for target in SHARES]


def _panel(name: str, target: float, curves: Curves) -> Panel:
    """Return the picture of a target: ours first, its ablations left to the table."""
    shown = {
        method: list(by_target[target].values())
        for method, by_target in curves.items()
        if by_target[target] and not _ablation(method)
    }
    return Panel(f"{name}, target {target:g}: best reward, mean and range of seeds", shown)


def _ablation(method: str) -> bool:
    """Whether this is our search without one of its parts, which is no rival of the whole."""
    return method.startswith(f"{OURS}-")


def _older(name: str, traces: Sequence[Trace]) -> Iterator[str]:
    """Say which versions trials were run with that are not the present ones."""
    for what, now in present().items():
        others = sorted({str(t.versions.get(what)) for t in traces} - {now})
        if others:
            yield f"{name}: trials with {what} {now}; some are of {', '.join(others)}"


def _front_shows(
    name: str, contest: Contest, found: Mapping[str, Sequence[Kept]]
) -> Iterator[Show]:
    """Yield which share of Galen's finished programs our fronts dominate or equal."""
    rivals = {(trial.seed, trial.target): trace for trial, trace in found.get(FRONT_RIVAL, ())}
    held = [
        _beaten(contest, ours, rivals[trial.seed, target], target)
        for trial, ours in found.get(FRONT_OURS, ())
        for target in trial.method.shares
        if (trial.seed, target) in rivals
    ]
    if held:
        title = (
            f"{name}: share of {len(held)} Galen searches of 100 whose result our fronts of "
            f"{FRONT_MEASUREMENTS} measurements dominate or equal"
        )
        yield Show(title, statistics.mean(held), "", 1.0)


def _beaten(contest: Contest, ours: Trace, rival: Trace, target: float) -> bool:
    """Return whether our front dominates or equals Galen's finished program.

    Accuracies within a standard error of the validation images are equal.
    """
    best = best_step(rival, contest.reward, target * rival.reference_ms)
    error = math.sqrt(best.accuracy * (1 - best.accuracy) / rival.images)
    points = front(ours, FRONT_MEASUREMENTS - ours.before)
    found = accuracy_within(points, best.latency_ms * (1 + EQUAL_RATIO))
    return found >= best.accuracy - error


def _curves(contest: Contest, kept: Sequence[Kept]) -> dict[float, dict[int, Curve]]:
    """Return the curves of one method, from every target that its trials serve."""
    curves: dict[float, dict[int, Curve]] = {target: {} for target in SHARES}
    for trial, trace in kept:
        for target in SHARES if trial.method.front else (trial.target,):
            goal = target * trace.reference_ms
            curves[target][trial.seed] = Curve.of(trace, contest.reward, goal)
    return curves


def _samples(
    name: str, reference_ms: float, curves: Curves, surrogates: Sequence[HeldOut]
) -> dict[str, Any]:
    return {
        "name": name,
        "reference_ms": reference_ms,
        "curves": [
            {"method": method, "target": target, "seed": seed, **asdict(curve)}
            for method, by_target in curves.items()
            for target, by_seed in by_target.items()
            for seed, curve in by_seed.items()
        ],
        "held_out": [asdict(figures) for figures in surrogates],
    }


def _table(name: str, target: float, curves: Curves) -> Table:
    """Return the mean best reward of every method at some budgets, and at its end."""
    columns = [f"{name}, target {target:g}", "seeds", *(f"{b}" for b in BUDGETS), "at the end"]
    rows = []
    for method, by_target in curves.items():
        found = list(by_target[target].values())
        if found:
            last = max(max(curve.measured) for curve in found)
            values = [number(mean_at(found, budget), 3) for budget in BUDGETS]
            end = f"{number(mean_at(found, last), 3)} ({last})"
            rows.append([method, f"{len(found)}", *values, end])
    return Table(columns, rows)


def _shows(name: str, target: float, curves: Curves) -> list[Show]:
    ours = curves.get(OURS, {}).get(target, {})
    where = f"{name}, target {target:g}"
    shows = []
    if ours and (rival := curves.get(RIVAL, {}).get(target, {})):
        shares = reached(ours, rival)
        kinds = (
            ("measurements, one an episode as published,", MEASUREMENTS_BAR),
            ("evaluations, one an episode as published,", EVALUATIONS_BAR),
            ("distinct programs", None),
        )
        for at, (what, bar) in enumerate(kinds):
            value = statistics.median(share[at] for share in shares)
            title = f"{where}: share of Galen's {what} until its final reward, median of seeds"
            shows.append(Show(title, value, "", bar, "at most"))
    rivals = [method for method in curves if method != OURS and not _ablation(method)]
    others = {method: curves[method][target] for method in rivals if curves[method][target]}
    if ours and others:
        budgets = [budget for budget in BUDGETS if budget <= METHODS["random"].episodes]
        behind = [
            budget
            for budget in budgets
            for other in others.values()
            if lead(list(ours.values()), list(other.values()), budget)[1] < 0
        ]
        title = f"{where}: budgets at which another search is better, 95 % interval"
        shows.append(Show(title, len(set(behind)), f"of {len(budgets)}", 0, "at most"))
    return shows
