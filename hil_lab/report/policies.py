"""A policy in words and as columns per layer: width, bits and share of the arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from hil_lab.report.facts import FP32, Facts, Program
from hil_lab.report.numbers import amount, percent
from hil_lab.report.svg import Axis, element, line, text, tip
from host.policy import FULL_BITS, MODES, LayerPolicy, Policy

BITS = (1, 2, 3, 4, 5, 6, 8, 32)
LEFT, TOP, PANEL, GAP, LETTER = 62.0, 38.0, 96.0, 46.0, 7.2
LISTED_LAYERS = 12


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer of a policy beside the same layer uncompressed; MACs are as executed."""

    policy: LayerPolicy
    width: int
    full_macs: int
    macs: int | None
    network_macs: int

    @property
    def kept(self) -> float:
        """Share of the output channels that remain."""
        return self.policy.keep / self.width

    @property
    def full_share(self) -> float:
        """Share of the uncompressed network's MACs that the uncompressed layer takes."""
        return self.full_macs / self.network_macs if self.network_macs else 0.0

    @property
    def share(self) -> float:
        """Share of the uncompressed network's MACs that remains in this layer."""
        return (self.macs or 0) / self.network_macs if self.network_macs else 0.0


def widths(facts: Facts) -> dict[str, int]:
    """Return the output channels of every uncompressed layer."""
    if whole := facts.program(FP32):
        return {p.layer: p.keep for p in whole.policy.layers}
    found = dict(facts.reference_widths)
    for search in facts.searches:
        for episode in search.episodes:
            for p in episode.policy.layers:
                found[p.layer] = max(found.get(p.layer, 0), p.keep)
    return found


def rows(facts: Facts, policy: Policy, program: Program | None) -> list[LayerRow]:
    """Return the layers of a policy; MACs that remain are known of a built program alone."""
    full, wide = facts.reference_macs, widths(facts)
    total = sum(full.values())
    built = program.layer_macs if program else {}
    return [
        LayerRow(p, wide.get(p.layer, p.keep), full.get(p.layer, 0), built.get(p.layer), total)
        for p in policy.layers
    ]


def form(p: LayerPolicy) -> str:
    """Write a number format in a few characters."""
    return p.mode if p.mode != "mix" else f"mix w{p.weight_bits} a{p.act_bits}"


def summary(policy: Policy, wide: Mapping[str, int]) -> list[str]:
    """Describe a policy: every layer of a small network, the numbers of layers of a large one."""
    if len(policy.layers) <= LISTED_LAYERS:
        return [
            f"{p.layer}: {p.keep}/{wide.get(p.layer, p.keep)}  {form(p)}" for p in policy.layers
        ]
    counts = Counter(p.mode for p in policy.layers)
    mix = [p for p in policy.layers if p.mode == "mix"]
    kept = sum(p.keep for p in policy.layers) / sum(
        wide.get(p.layer, p.keep) for p in policy.layers
    )
    lines = [" \N{MIDDLE DOT} ".join(f"{counts[m]} {m}" for m in MODES if counts[m])]
    if mix:
        weight, act = (sum(b) / len(mix) for b in zip(*_bits(mix), strict=True))
        lines.append(f"mix on average w{weight:.1f} a{act:.1f}")
    return [*lines, f"{percent(kept, 0)} of the channels kept"]


def _bits(layers: list[LayerPolicy]) -> list[tuple[int, int]]:
    return [(p.weight_bits, p.act_bits) for p in layers]


def figure(layers: list[LayerRow]) -> Markup:
    """Draw a policy, one column per layer."""
    step = min(max(980.0 / max(len(layers), 1), 16.0), 150.0)
    width, bottom = LEFT + step * len(layers) + 16, TOP + 3 * PANEL + 2 * GAP
    tops = [TOP + n * (PANEL + GAP) for n in range(3)]
    angle = 40 if step >= 24 else 58
    parts = [*_frame(tops, width, layers)]
    for number, row in enumerate(layers):
        parts.append(_column(row, LEFT + step * number, step, tops, layers))
        x, y = LEFT + step * (number + 0.5) + 4, bottom + 14
        parts.append(
            element(
                "text",
                row.policy.layer,
                class_="layer",
                text_anchor="end",
                transform=f"translate({x:.1f} {y:.1f}) rotate(-{angle})",
            )
        )
    longest = max((len(row.policy.layer) for row in layers), default=0)
    height = bottom + 30 + math.sin(math.radians(angle)) * LETTER * longest
    box = f"0 0 {width:.0f} {height:.0f}"
    return element(
        "svg", *parts, viewBox=box, class_="wide", role="img", width=width, height=height
    )


def _frame(tops: list[float], width: float, layers: list[LayerRow]) -> list[Markup]:
    names = ("channels kept", "bits", "share of the uncompressed network's MACs")
    parts = [text(LEFT, y - 20, n, "panel") for y, n in zip(tops, names, strict=True)]
    marks: list[tuple[Axis, tuple[float, ...]]] = [(_share_axis(tops[0], 1.0), (0.0, 0.5, 1.0))]
    top = max((max(row.full_share, row.share) for row in layers), default=1.0) or 1.0
    axis = _share_axis(tops[2], top)
    marks.append((axis, tuple(axis.ticks(3))))
    for scale, values in marks:
        for value in values:
            y = scale(value)
            parts.append(line(LEFT, y, width - 12, y, "grid"))
            parts.append(text(LEFT - 8, y + 4, f"{100 * value:g} %", "tick", "end"))
    for bits in BITS:
        y = _bits_y(bits, tops[1])
        parts.append(line(LEFT, y, width - 12, y, "grid"))
        if bits in (1, 2, 4, 6, 8, FULL_BITS):
            parts.append(text(LEFT - 8, y + 4, str(bits), "tick", "end"))
    return parts


def _share_axis(top: float, most: float) -> Axis:
    return Axis(0.0, most, top + PANEL, top)


def _bits_y(bits: int, top: float) -> float:
    return Axis(0, len(BITS) - 1, top + PANEL, top)(BITS.index(bits))


def _column(
    row: LayerRow, left: float, step: float, tops: list[float], layers: list[LayerRow]
) -> Markup:
    p, bar = row.policy, min(step * 0.62, 58.0)
    x, middle = left + (step - bar) / 2, left + step / 2
    most = max((max(r.full_share, r.share) for r in layers), default=1.0) or 1.0
    kept, macs = _share_axis(tops[0], 1.0), _share_axis(tops[2], most)
    parts = [
        element(
            "rect", x=left, y=tops[0], width=step, height=tops[2] + PANEL - tops[0], class_="hit"
        ),
        *_bar(x, bar, kept, 1.0, row.kept),
        *_bar(x, bar, macs, row.full_share, row.share if row.macs is not None else None),
    ]
    if step >= 56:
        parts.append(text(middle, kept(row.kept) - 5, f"{p.keep}/{row.width}", "value", "middle"))
    weight, act = _bits_y(p.weight_bits, tops[1]), _bits_y(p.act_bits, tops[1])
    shift = min(bar / 5, 7.0)
    parts.append(line(middle - shift, weight, middle + shift, act, "stem"))
    parts.append(element("circle", cx=middle - shift, cy=weight, r=5.0, class_="weights"))
    parts.append(element("circle", cx=middle + shift, cy=act, r=5.0, class_="acts"))
    return element("g", *parts, class_=f"column {p.mode}", data_tip=_tip(row), tabindex=0)


def _bar(x: float, width: float, axis: Axis, whole: float, part: float | None) -> list[Markup]:
    def rect(value: float, class_: str) -> Markup:
        height = max(axis(0.0) - axis(value), 0.5)
        return element("rect", x=x, y=axis(value), width=width, height=height, rx=2, class_=class_)

    return [rect(whole, "whole"), *([rect(part, "part")] if part is not None else [])]


def _tip(row: LayerRow) -> str:
    p = row.policy
    lines = [
        p.layer,
        f"{p.keep} of {row.width} channels ({percent(row.kept, 0)})",
        f"{form(p)}: weights {p.weight_bits} bit, activations {p.act_bits} bit",
    ]
    if row.network_macs:
        lines.append(f"uncompressed {amount(row.full_macs)} MACs ({percent(row.full_share, 1)})")
    if row.macs is not None:
        lines.append(f"now {amount(row.macs)} MACs ({percent(row.share, 1)})")
    return tip(*lines)
