"""Where a number came from: measurement, board, protocol, artifact, and a strip of its samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hil_lab.report.charts import LABELS
from hil_lab.report.facts import Facts, Program
from hil_lab.report.numbers import ms, percent, plural
from hil_lab.report.svg import Axis, element, text, tip
from host.boards.types import Conditions, Measurement

STRIP_WIDTH, STRIP_HEIGHT, BINS = 300.0, 74.0, 48
DIGEST = 12


@dataclass(frozen=True, slots=True)
class Origin:
    """One program's card: rows of (name, value, in full on hover) and its samples."""

    title: str
    rows: tuple[tuple[str, str, str], ...]
    strip: Markup


def origins(facts: Facts) -> list[Origin]:
    """Return a card per finished program."""
    return [_origin(facts, program) for program in facts.programs]


def _origin(facts: Facts, program: Program) -> Origin:
    e, strip = program.evaluation, Markup("")
    figure, name = e.latency_ms, ", ".join(e.measurements)
    rows = [
        ("accuracy", f"{percent(e.accuracy)} of {e.samples} {e.split} images", ""),
        ("latency", f"{ms(program.latency_ms)}, {figure.source if figure else 'none'}", ""),
        ("measurement", name or "none", ""),
    ]
    there = [facts.measurements[m] for m in e.measurements if m in facts.measurements]
    if there:
        rows += _measured(there[0])
        rows += [(f"on {m.board}", ms(m.latency_ms.median), "") for m in there[1:]]
        strip = samples_strip(there[0].samples_ns)
    elif name:
        rows.append(("raw samples", "not in this folder's store", ""))
    rows.append(("artifact", e.artifact[:DIGEST], e.artifact))
    rows.append(("policy", program.policy.digest()[:DIGEST], program.policy.digest()))
    if program.episode is not None:
        rows.append(("found in", f"episode {program.episode + 1}", ""))
    return Origin(LABELS.get(program.name, program.name), tuple(rows), strip)


def _measured(m: Measurement) -> Iterator[tuple[str, str, str]]:
    plan = m.protocol
    count = f"{len(m.samples_ns):,} inferences in {plural(len(m.blocks), 'block')}"
    yield "verdict", "; ".join([m.verdict, *m.reasons, *m.flags]), ""
    yield "samples", count, "one block is one process; all raw samples are in the store"
    yield "protocol", f"{plan.mode}, version {plan.number}", ""
    yield "board", m.board, ""
    yield "fingerprint", m.fingerprint_digest[:DIGEST], m.fingerprint_digest
    yield "program", m.structure[:DIGEST], f"structure {m.structure}"
    if conditions := _conditions([c for b in m.blocks for c in (b.start, b.end) if c]):
        yield "conditions", conditions, ""
    if m.energy:
        yield "energy by", f"{m.energy.meter}, {plural(m.energy.readings, 'reading')}", ""


def _conditions(found: Sequence[Conditions]) -> str:
    parts = []
    for unit, values in (
        ("\N{DEGREE SIGN}C", [c.temperature_c for c in found if c.temperature_c is not None]),
        ("MHz", [c.clock_mhz for c in found if c.clock_mhz is not None]),
    ):
        if values:
            low, high = f"{min(values):.0f}", f"{max(values):.0f}"
            parts.append(f"{low} {unit}" if low == high else f"{low} to {high} {unit}")
    return ", ".join(parts)


def samples_strip(samples_ns: Sequence[int]) -> Markup:
    """Draw how often which latency was seen, the median marked."""
    if not samples_ns:
        return Markup("")
    values = sorted(ns / 1e6 for ns in samples_ns)
    low, high = values[0], max(values[-1], values[0] * 1.001)
    counts = [0] * BINS
    for value in values:
        counts[min(int((value - low) / (high - low) * BINS), BINS - 1)] += 1
    floor = STRIP_HEIGHT - 18
    x, y = Axis(low, high, 1, STRIP_WIDTH - 1), Axis(0, math.sqrt(max(counts)), floor, 2)
    parts = []
    for number, count in enumerate(counts):
        if count:
            top, step = y(math.sqrt(count)), (STRIP_WIDTH - 2) / BINS
            parts.append(
                element("rect", x=1 + step * number, y=top, width=step - 0.8, height=floor - top)
            )
    middle = x(values[len(values) // 2])
    parts.append(element("path", d=f"M{middle:.1f} 0V{floor:.1f}", class_="median"))
    parts.append(text(0, STRIP_HEIGHT - 3, ms(low), "tick", "start"))
    parts.append(text(STRIP_WIDTH, STRIP_HEIGHT - 3, ms(high), "tick", "end"))
    hover = tip(f"median {ms(values[len(values) // 2])}", "heights are square roots of counts")
    box = f"0 0 {STRIP_WIDTH:.0f} {STRIP_HEIGHT:.0f}"
    return element("svg", *parts, viewBox=box, class_="strip", data_tip=hover)
