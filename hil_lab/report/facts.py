"""What a run left on disk, read for its page; never runs, measures or changes anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil_lab.recipe import Recipe
from hil_lab.report.numbers import cost_words
from hil_lab.runs import EVENTS, FRONT, RECIPE, RESULT, SURROGATE, Run
from host.boards.types import Measurement
from host.cost import COSTS, Cost
from host.errors import StoreError
from host.policy import Policy
from host.search.episode import Episode
from host.store import Store
from host.surrogate.scorecard import Scorecard
from host.types import Evaluation

FP32, INT8 = "fp32", "uniform-int8"
# Written by hil_lab.workbench, experiment and finish, which need torch and are not imported here.
STORE, REFERENCE, SENSITIVITY = "store.db", "reference.json", "sensitivity.json"
FINALIST, MANIFEST = "finalist.json", "manifest.json"


@dataclass(frozen=True, slots=True)
class Program:
    """A finished program: a policy, its final training and everything measured of it.

    `layer_macs` are those that its kernels execute, padding included; `weights` are those that are
    left and not zero, None in runs that did not count them.
    """

    name: str
    target: float | None
    episode: int | None
    validation: float
    policy: Policy
    evaluation: Evaluation
    proofs: Mapping[str, Mapping[str, Any]]
    layer_macs: Mapping[str, int]
    weights: int | None = None

    @property
    def latency_ms(self) -> float:
        """Median latency."""
        figure = self.evaluation.latency_ms
        return figure.value if figure else float("nan")


@dataclass(frozen=True, slots=True)
class Budget:
    """What targets count, and how much of it the optimised fp32 program takes."""

    cost: Cost
    reference: float

    def share(self, evaluation: Evaluation) -> float:
        """Return a program's cost as a share of the fp32 program's."""
        return self.cost.of(evaluation) / self.reference

    def words(self, evaluation: Evaluation) -> str:
        """Write a program's cost."""
        return cost_words(self.cost, self.cost.of(evaluation))


@dataclass(frozen=True, slots=True)
class Search:
    """The episodes of one target."""

    target: float
    episodes: tuple[Episode, ...]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One divergence: of a setting (kind, value) of a layer, in nats; None where unsupported."""

    layer: str
    kind: str
    value: float
    kl: float | None


@dataclass(frozen=True)
class Facts:
    """All that the page shows."""

    run: Run
    recipe: Recipe
    versions: Mapping[str, str]
    finished: bool
    board: Mapping[str, Any]
    compiler_target: str
    reference_ms: float | None
    budget: Budget | None
    searches: tuple[Search, ...]
    programs: tuple[Program, ...]
    sensitivity: tuple[Sensitivity, ...]
    sensitivity_images: int
    reference_macs: Mapping[str, int]
    reference_widths: Mapping[str, int]
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    started: str = ""
    ended: str = ""
    # By search (a target, or the front); by measurement of the search; sentences.
    scorecards: Mapping[str, Scorecard] = field(default_factory=dict)
    measured_by: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def program(self, name: str) -> Program | None:
        """Return a finished program by name."""
        return next((p for p in self.programs if p.name == name), None)

    def chosen(self, target: float) -> Program | None:
        """Return the finished program of a target."""
        return next((p for p in self.programs if p.target == target), None)


def read_facts(run: Run) -> Facts:
    """Read a run folder and its store; what is not there yet is left empty."""
    recipe, result = run.recipe, _read(run, RESULT)
    programs = tuple(_program(run, record) for record in _records(run, result))
    reference = _read(run, REFERENCE)
    searches, measurements, measured_by = _stored(run, recipe, programs, reference)
    events = _events(run.path(EVENTS))
    sensitivity = _read(run, SENSITIVITY)
    manifest = _manifest(run.path("reference"))
    reference_ms = result.get("reference_ms") or reference.get("latency_ms")
    return Facts(
        run=run,
        recipe=recipe,
        versions=run.read(RECIPE).get("versions", {}),
        finished=bool(result),
        board=result.get("board") or _board(recipe, measurements.values()),
        compiler_target=result.get("target") or manifest.get("target", ""),
        reference_ms=reference_ms,
        budget=_budget(recipe, {**reference, "latency_ms": reference_ms}),
        searches=searches,
        programs=programs,
        sensitivity=tuple(_sensitivities(sensitivity)),
        sensitivity_images=int(sensitivity.get("images", 0)),
        reference_macs=_layer_macs(manifest),
        reference_widths=_widths(manifest),
        measurements=measurements,
        started=str(events[0].get("at", "")) if events else "",
        ended=str(events[-1].get("at", "")) if events else "",
        scorecards=dict(_scorecards(run, recipe)),
        measured_by=measured_by,
        dropped=tuple(e["why"] for e in events if e.get("event") == "board dropped"),
    )


def _budget(recipe: Recipe, reference: Mapping[str, Any]) -> Budget | None:
    cost = COSTS[recipe.search.cost]
    value = reference.get(cost.field)
    return Budget(cost, float(value)) if value else None


def _read(run: Run, name: str) -> dict[str, Any]:
    return run.read(name) if run.path(name).is_file() else {}


def _records(run: Run, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the finished programs: of the result, else of those finished so far."""
    if result:
        return list(result["rows"])
    found = [run.read(f"final/{p.parent.name}/{p.name}") for p in _finalists(run)]
    order = {FP32: -2, INT8: -1}
    return sorted(found, key=lambda record: order.get(record["name"], record["target"] or 0.0))


def _finalists(run: Run) -> Iterator[Path]:
    return run.path("final").glob(f"*/{FINALIST}")


def _program(run: Run, record: Mapping[str, Any]) -> Program:
    return Program(
        name=record["name"],
        target=record["target"],
        episode=record["episode"],
        validation=record["validation"],
        policy=Policy.from_dict(record["policy"]),
        evaluation=Evaluation.from_dict(record["evaluation"]),
        proofs=record["verify"],
        layer_macs=_layer_macs(_manifest(run.path("final", record["name"], "artifact"))),
        weights=record.get("weights"),
    )


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return manifest


def _layer_macs(manifest: Mapping[str, Any]) -> dict[str, int]:
    macs: dict[str, int] = {}
    for kernel in manifest.get("kernels", ()):
        if kernel["layer"]:
            macs[kernel["layer"]] = macs.get(kernel["layer"], 0) + int(kernel["macs"])
    return macs


def _widths(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Return the output channels of the layers of an uncompressed program."""
    return {
        kernel["layer"]: int(kernel["shape"]["out"][-1])
        for kernel in manifest.get("kernels", ())
        if kernel["layer"] and kernel["macs"] and isinstance(kernel["shape"].get("out"), list)
    }


def _stored(
    run: Run, recipe: Recipe, programs: Iterable[Program], reference: Mapping[str, Any]
) -> tuple[tuple[Search, ...], dict[str, Measurement], dict[str, str]]:
    """Return the searches, the measurements of programs and reference, and who did the others."""
    path = run.folder.parent / STORE
    if not path.is_file():
        return tuple(Search(target, ()) for target in recipe.search.target), {}, {}
    names = {name for p in programs for name in p.evaluation.measurements}
    if reference:
        names |= {reference["measurement"], *reference.get("measurements", ())}
    with closing(Store(path)) as store:
        searches = tuple(
            Search(target, tuple(store.episodes(f"{run.name}@{target}")))
            for target in recipe.search.target
        )
        evaluated = {m for s in searches for e in s.episodes for m in e.evaluation.measurements}
        measured_by = store.boards(sorted(evaluated))
        return searches, dict(_measurements(store, sorted(names))), measured_by


def _measurements(store: Store, names: Iterable[str]) -> Iterator[tuple[str, Measurement]]:
    for name in names:
        try:
            yield name, store.measurement(name)
        except StoreError:  # the store was replaced: the page says that the record is not there
            continue


def _board(recipe: Recipe, measurements: Iterable[Measurement]) -> dict[str, Any]:
    for measurement in measurements:
        return {"name": measurement.board, "fingerprint": dict(measurement.fingerprint)}
    return {"name": ", ".join(recipe.board), "fingerprint": {}}


def _sensitivities(table: Mapping[str, Any]) -> Iterator[Sensitivity]:
    for entry in table.get("entries", ()):
        setting = entry["setting"]
        kl = entry["kl"] if entry["supported"] else None
        yield Sensitivity(entry["layer"], setting["kind"], setting["value"], kl)


def _events(path: Path) -> list[dict[str, Any]]:
    """Return the run's log, as far as it was written whole."""
    events: list[dict[str, Any]] = []
    try:
        with path.open() as file:
            for line in file:
                events.append(json.loads(line))
    except (OSError, json.JSONDecodeError):
        return events
    return events


def _scorecards(run: Run, recipe: Recipe) -> Iterator[tuple[str, Scorecard]]:
    """Yield what the searches foretold against what came, the front's first."""
    for name in (FRONT, *map(str, recipe.search.target)):
        if kept := _read(run, f"at-{name}/{SURROGATE}"):
            yield name, Scorecard.from_dict(kept)
