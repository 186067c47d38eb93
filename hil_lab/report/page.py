"""The page put together: sentences, tiles and sections for the template; no I/O but templates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hil_lab.report import boards, charts, foresight, heat, origin, policies, tables
from hil_lab.report.facts import FP32, INT8, Facts, Program, Search
from hil_lab.report.numbers import (
    duration,
    kilobytes,
    ms,
    percent,
    plural,
    points,
    signed,
    times,
    wilson,
)
from host.cost import COSTS
from host.search.episode import Episode, best

HERE = Path(__file__).parent
# A cost this far from its target is said to miss it.
NEAR_TARGET = 0.05


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure to see from afar."""

    name: str
    value: str
    note: str
    good: bool | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """All about one target."""

    target: float
    title: str
    verdict: str
    missed: bool
    remarks: tuple[str, ...]
    tiles: tuple[Tile, ...]
    progress: str
    policy_title: str
    policy: Markup
    layers: tuple[policies.LayerRow, ...]
    scatter: Markup
    curves: Markup


def render(facts: Facts) -> str:
    """Return the page of a run; the same facts give the same page."""
    sections, entries = [_section(facts, s) for s in facts.searches], facts.sensitivity
    only = sections[0].layers if len(sections) == 1 else ()
    template = environment().get_template("page.html")
    return template.render(
        facts=facts,
        recipe=facts.recipe,
        sections=sections,
        programs=tables.program_rows(facts),
        has_energy=any(p.evaluation.energy_mj for p in facts.programs),
        heat=heat.heat_map(entries, heat.chosen_settings(only)) if entries else "",
        heat_bounds=heat.scale_of(entries).bounds(),
        heat_outlined=bool(only),
        foresight=foresight.rows(facts),
        foresight_stated=foresight.STATED,
        boards=boards.rows(facts),
        board_programs=boards.programs(facts),
        proofs=tables.proofs(facts),
        origins=origin.origins(facts),
        recipe_lines=tables.recipe_lines(facts.recipe),
        commands=tables.commands(facts),
        form=policies.form,
        style=Markup((HERE / "style.css").read_text()),
        script=Markup((HERE / "script.js").read_text()),
    )


def environment() -> Environment:
    """Return what renders the templates beside this file; everything is escaped."""
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _section(facts: Facts, search: Search) -> Section:
    program = facts.chosen(search.target)
    episode = best(search.episodes) if search.episodes else None
    shown = program.policy if program else episode.policy if episode else None
    layers = policies.rows(facts, shown, program) if shown else []
    return Section(
        target=search.target,
        title=f"Target {times(search.target)}",
        verdict=verdict(facts, search, program, episode),
        missed=_missed(facts, program),
        remarks=tuple(_remarks(facts, program)) if program else (),
        tiles=tuple(_tiles(facts, program)) if program else (),
        progress=_progress(facts, search),
        policy_title="The chosen policy" if program else "The best policy so far",
        policy=policies.figure(layers) if layers else Markup(""),
        layers=tuple(layers),
        scatter=charts.scatter(facts, search),
        curves=charts.curves(facts, search),
    )


def verdict(facts: Facts, search: Search, program: Program | None, episode: Episode | None) -> str:
    """Say in one sentence what came of a target."""
    whole = facts.program(FP32)
    if program and whole:
        name, ratio = facts.recipe.search.cost, _share(facts, program, whole)
        lost = whole.evaluation.accuracy - program.evaluation.accuracy
        change = f"{abs(100 * lost):.1f} points {'lost' if lost >= 0 else 'gained'}"
        if round(100 * abs(lost), 1) == 0:
            change = "no accuracy lost"
        missed = f": target {times(search.target)} missed" if _missed(facts, program) else ""
        return f"{times(ratio)} the {name} of optimised fp32 at {change}{missed}"
    if episode and facts.budget:
        ratio = facts.budget.share(episode.evaluation)
        return f"so far {percent(episode.evaluation.accuracy, 1)} on validation at {times(ratio)}"
    return "nothing evaluated yet"


def _remarks(facts: Facts, program: Program) -> Iterator[str]:
    whole, other = facts.program(FP32), facts.program(INT8)
    if not whole:
        return
    mine, theirs = program.evaluation, whole.evaluation
    yield (
        f"{percent(mine.accuracy)} of {mine.samples} test images against "
        f"{percent(theirs.accuracy)}; the two 95 % intervals {_overlap(program, whole)}."
    )
    off = _off_target(facts, program, whole)
    near = "within" if abs(off) <= NEAR_TARGET else "not within"
    name = facts.recipe.search.cost.capitalize()
    yield f"{name} is {signed(off)} off the target: {near} {percent(NEAR_TARGET, 0)} of it."
    if other:
        ratio, gap = (
            program.latency_ms / other.latency_ms,
            mine.accuracy - other.evaluation.accuracy,
        )
        yield f"Beside uniform int8: {times(ratio)} its latency, {points(gap)}."
    if mine.verdict != "trusted":
        yield f"The latency is {mine.verdict}: see where each number came from."
    if said := [c for proof in program.proofs.values() for c in proof.get("complaints", ())]:
        yield f"Verification failed: {said[0]}."


def _share(facts: Facts, program: Program, whole: Program) -> float:
    """Return a program's cost as a share of the finished fp32 program's."""
    cost = COSTS[facts.recipe.search.cost]
    return cost.of(program.evaluation) / cost.of(whole.evaluation)


def _off_target(facts: Facts, program: Program, whole: Program) -> float:
    """Return by which share of its target a program costs too much."""
    return _share(facts, program, whole) / (program.target or 1.0) - 1


def _missed(facts: Facts, program: Program | None) -> bool:
    whole = facts.program(FP32)
    return bool(program and whole and _off_target(facts, program, whole) > NEAR_TARGET)


def _overlap(a: Program, b: Program) -> str:
    (low, high), (low2, high2) = (
        wilson(p.evaluation.accuracy, p.evaluation.samples) for p in (a, b)
    )
    return "overlap" if low <= high2 and low2 <= high else "do not overlap"


def _tiles(facts: Facts, program: Program) -> Iterator[Tile]:
    whole = facts.program(FP32)
    if not whole:
        return
    mine, full = program.evaluation, whole.evaluation
    ratio = program.latency_ms / whole.latency_ms
    latencies = f"{ms(program.latency_ms)} from {ms(whole.latency_ms)}"
    yield Tile("latency", times(ratio), latencies)
    change = points(mine.accuracy - full.accuracy)
    yield Tile("test accuracy", percent(mine.accuracy, 1), f"{change} from fp32")
    sizes = f"{kilobytes(mine.size_bytes)} from {kilobytes(full.size_bytes)}"
    yield Tile("weights", times(mine.size_bytes / full.size_bytes), sizes)
    if mine.energy_mj and full.energy_mj:
        share = mine.energy_mj.value / full.energy_mj.value
        notes = f"{tables.energy(mine)} from {tables.energy(full)}"
        yield Tile("energy", times(share), notes)
    yield _exact_tile(program)


def _exact_tile(program: Program) -> Tile:
    done = {board: p for board, p in program.proofs.items() if p.get("executed")}
    if not done:
        return Tile("integer-exact", "not proved", "no board here could run it", False)
    board, proof = next(iter(done.items()))
    good = not any(p["complaints"] for p in done.values())
    count = len(proof["layers"])
    note = f"{plural(count, 'quantized layer')} on {board}"
    return Tile("integer-exact", "yes" if good else "no", note, good)


def _progress(facts: Facts, search: Search) -> str:
    asked, done = facts.recipe.search.episodes, len(search.episodes)
    spent = sum(e.evaluation.seconds for e in search.episodes)
    text = f"{done} of {asked} episodes" if done < asked else plural(done, "episode")
    samples = [e.evaluation.samples for e in search.episodes]
    if stopped := sum(count < max(samples) for count in samples):
        text += f" ({stopped} hopeless, counted in part)"
    return f"{text}, {duration(spent)} of evaluation" if done else text
