"""The rows of the page's tables as text cells: programs, verifications, the recipe."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from hil_lab.recipe import Recipe
from hil_lab.report.charts import LABELS
from hil_lab.report.facts import FP32, Facts, Program
from hil_lab.report.numbers import amount, kilobytes, millijoules, ms, percent, times, wilson
from host.size import papers_ratio, times_smaller
from host.types import Evaluation, Figure
from host.verify import exact, summary
from protos.values import LayerCheck, VerifyReport


@dataclass(frozen=True, slots=True)
class ProgramRow:
    """A program beside fp32, ready to print; ratios are of the fp32 row, same protocol."""

    label: str
    chosen: bool
    accuracy: str
    accuracy_range: str
    latency: str
    latency_range: str
    ratio: str
    size: str
    smaller: str
    macs: str
    bops: str
    energy: str
    verdict: str


def program_rows(facts: Facts) -> list[ProgramRow]:
    """Return a row per finished program."""
    whole = facts.program(FP32)
    return [_program_row(program, whole) for program in facts.programs]


def _program_row(program: Program, whole: Program | None) -> ProgramRow:
    e = program.evaluation
    low, high = wilson(e.accuracy, e.samples)
    label = LABELS.get(program.name) or f"yours, target {times(program.target or 0)}"
    source = e.latency_ms.source if e.latency_ms else ""
    return ProgramRow(
        label=label,
        chosen=program.target is not None,
        accuracy=percent(e.accuracy),
        accuracy_range=f"{100 * low:.1f} to {100 * high:.1f} %, n = {e.samples}",
        latency=ms(program.latency_ms),
        latency_range=interval(e.latency_ms),
        ratio=times(program.latency_ms / whole.latency_ms, 3) if whole else "",
        size=kilobytes(e.size_bytes),
        smaller=smaller(program, whole) if whole not in (None, program) else "",
        macs=amount(e.macs),
        bops=amount(e.bops),
        energy=energy(e),
        verdict=", ".join(part for part in (e.verdict, source) if part),
    )


def smaller(program: Program, whole: Program) -> str:
    """Write how many times smaller a program is, in bytes, by the papers' formula, in weights."""
    real = times_smaller(program.evaluation.size_bytes, whole.evaluation.size_bytes)
    papers = papers_ratio(program.policy, whole.policy)
    said = f"{times(real)} smaller; papers' formula {times(papers)}"
    if program.weights and whole.weights:
        said += f"; {times(whole.weights / program.weights)} fewer weights"
    return said


def interval(figure: Figure | None) -> str:
    """Write a figure's 95 % interval."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{figure.low:.4f} to {figure.high:.4f}"


def energy(e: Evaluation) -> str:
    """Write the energy of an inference."""
    return millijoules(e.energy_mj.value) if e.energy_mj else ""


@dataclass(frozen=True, slots=True)
class Proof:
    """One verification: a program on a board."""

    program: str
    board: str
    executed: bool
    good: bool
    sentence: str
    complaints: tuple[str, ...]
    layers: tuple[tuple[LayerCheck, bool], ...]
    chosen: bool


def proofs(facts: Facts) -> list[Proof]:
    """Return every verification of every program, the chosen ones first."""
    found = [
        _proof(program, board, record)
        for program in facts.programs
        for board, record in program.proofs.items()
    ]
    return sorted(found, key=lambda proof: not proof.chosen)


def _proof(program: Program, board: str, record: Mapping[str, Any]) -> Proof:
    name, chosen = LABELS.get(program.name, program.name), program.target is not None
    if not record.get("executed"):
        return Proof(name, board, False, False, str(record.get("reason", "")), (), (), chosen)
    report = VerifyReport(
        tuple(LayerCheck(**check) for check in record["layers"]),
        record["output_largest"],
        record["output_range"],
        record["forced_output_largest"],
    )
    said = tuple(record["complaints"])
    layers = tuple((check, exact(check)) for check in report.layers)
    return Proof(name, board, True, not said, _sentence(report), said, layers, chosen)


def _sentence(report: VerifyReport) -> str:
    """Say what a verification showed; without quantized layers, of the outputs alone."""
    if report.layers:
        return summary(report)
    return "no quantized layers, " + summary(report).partition(", ")[2]


def recipe_lines(recipe: Recipe) -> list[tuple[str, bool]]:
    """Return the resolved recipe as TOML, each line with whether it differs from the default."""
    return list(_table_lines(recipe, ""))


def _table_lines(table: Any, name: str) -> Iterator[tuple[str, bool]]:
    inner = []
    for spec in fields(table):
        value = getattr(table, spec.name)
        if is_dataclass(value) or isinstance(value, Mapping):
            inner.append((f"{name}.{spec.name}" if name else spec.name, value))
        elif value is not None:
            default = spec.default if spec.default is not MISSING else None
            yield f"{spec.name} = {_toml(value)}", value != default
    for title, value in inner:
        if isinstance(value, Mapping):
            yield from _mapping_lines(title, value)
        else:
            yield from (("", False), (f"[{title}]", False), *_table_lines(value, title))


def _mapping_lines(title: str, values: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    if values:
        yield from (("", False), (f"[{title}]", False))
        yield from ((f"{key} = {_toml(value)}", True) for key, value in values.items())


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def commands(facts: Facts) -> list[tuple[str, str]]:
    """Return (what for, command) of what can be done with the run."""
    recipe, run = facts.recipe, facts.run
    folder = shlex.quote(f"{recipe.runs}/{run.name}")
    found = [] if facts.finished else [("go on where it stopped", f"hil-lab resume {folder}")]
    for target in recipe.search.target:
        if not facts.chosen(target):
            continue
        at = f"{folder} --at {target}"
        out = shlex.quote(f"{run.name}-{target}")
        found += [
            ("compare every integer again", f"hil-lab verify {at} --board local"),
            ("accuracy of the compiled program", f"hil-lab evaluate {at} --data images.npz"),
            ("copy the program out", f"hil-lab export {at} -o {out}"),
        ]
    return [*found, ("write this page again", f"hil-lab report {folder} --open")]
