"""The sensitivity table as a heat map: a row per layer, a column per setting; colour is the log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from hil_lab.report.facts import Sensitivity
from hil_lab.report.policies import LayerRow
from hil_lab.report.svg import element, text, tip

CELL, ROW, GAP, TOP, LETTER = 29.0, 23.0, 14.0, 44.0, 6.6
SHADES = 9
LEAST = 1e-4  # nats; below it nothing that matters has changed
KINDS = {
    "prune": "channels removed",
    "act": "activation bits",
    "weight": "weight bits",
    "int8": "int8",
}
HEADS = {"prune": "% of the channels removed"}


@dataclass(frozen=True, slots=True)
class Scale:
    """Divergence to shade, logarithmic between LEAST and the table's largest."""

    most: float

    def shade(self, kl: float) -> int:
        """Return a shade, 0 for least."""
        if kl <= LEAST:
            return 0
        share = math.log(kl / LEAST) / math.log(self.most / LEAST)
        return min(int(share * SHADES), SHADES - 1)

    def bounds(self) -> list[str]:
        """Return the upper bound of every shade."""
        step = math.log(self.most / LEAST) / SHADES
        bounds = [LEAST * math.exp(step * (n + 1)) for n in range(SHADES)]
        return [f"{bound:.1g}" if bound < 9.5 else f"{bound:.0f}" for bound in bounds]


def scale_of(entries: Sequence[Sensitivity]) -> Scale:
    """Return the scale of a table."""
    return Scale(max([e.kl for e in entries if e.kl is not None], default=1.0) or 2 * LEAST)


def columns(entries: Sequence[Sensitivity]) -> list[tuple[str, float]]:
    """Return the settings, mild to strong within a kind; removing nothing is no setting."""
    order = list(KINDS)
    found = {(e.kind, e.value) for e in entries if e.value}
    return sorted(found, key=lambda s: (order.index(s[0]), s[1] if s[0] == "prune" else -s[1]))


def chosen_settings(layers: Sequence[LayerRow]) -> set[tuple[str, str, float]]:
    """Return what a policy does, as (layer, kind, value) of the nearest settings."""
    found: set[tuple[str, str, float]] = set()
    for row in layers:
        p = row.policy
        if (tenths := round(10 * (1 - row.kept))) > 0:
            found.add((p.layer, "prune", min(tenths, 9) / 10))
        if p.mode == "int8":
            found.add((p.layer, "int8", 8))
        if p.mode == "mix":
            found |= {(p.layer, "act", p.act_bits), (p.layer, "weight", p.weight_bits)}
    return found


def heat_map(entries: Sequence[Sensitivity], chosen: set[tuple[str, str, float]]) -> Markup:
    """Draw the table; `chosen` settings are outlined, unsupported ones hatched."""
    settings, layers = columns(entries), list(dict.fromkeys(e.layer for e in entries))
    table = {(e.layer, e.kind, e.value): e.kl for e in entries}
    left, scale = LETTER * max(map(len, layers), default=0) + 16, scale_of(entries)
    places = _places(settings, left)
    parts = [_hatching(), *_heads(settings, places)]
    for number, layer in enumerate(layers):
        y = TOP + ROW * number
        parts.append(text(left - 8, y + 15, layer, "layer", "end"))
        for kind, value in settings:
            key = (layer, kind, value)
            cell = _cell(key, table.get(key), scale, key in chosen and table.get(key) is not None)
            parts.append(element("g", cell, transform=f"translate({places[kind, value]:.1f} {y})"))
    width, height = max(places.values(), default=left) + CELL + 12, TOP + ROW * len(layers) + 4
    box = f"0 0 {width:.0f} {height:.0f}"
    return element(
        "svg", *parts, viewBox=box, width=width, height=height, class_="wide heat", role="img"
    )


def _places(settings: Sequence[tuple[str, float]], left: float) -> dict[tuple[str, float], float]:
    places, x, last = {}, left, settings[0][0] if settings else ""
    for kind, value in settings:
        x += GAP if kind != last else 0.0
        places[kind, value], last = x, kind
        x += CELL
    return places


def _heads(
    settings: Sequence[tuple[str, float]], places: dict[tuple[str, float], float]
) -> list[Markup]:
    parts = []
    for kind, group in groupby(settings, key=lambda s: s[0]):
        parts.append(text(places[next(iter(group))], 14, HEADS.get(kind, KINDS[kind]), "panel"))
    for setting in settings:
        kind, value = setting
        label = f"{100 * value:.0f}" if kind == "prune" else f"{value:g}"
        parts.append(text(places[setting] + CELL / 2, 36, label, "tick", "middle"))
    return parts


def _hatching() -> Markup:
    stripe = element("path", d="M0 6L6 0", class_="hatch")
    pattern = element(
        "pattern", stripe, id="hatch", width=6, height=6, patternUnits="userSpaceOnUse"
    )
    return element("defs", pattern)


def _cell(key: tuple[str, str, float], kl: float | None, scale: Scale, chosen: bool) -> Markup:
    layer, kind, value = key
    what = f"{100 * value:.0f} % of channels removed" if kind == "prune" else _bits(kind, value)
    found = "not supported" if kl is None else f"KL {kl:.3g} nats per image"
    shade = "unsupported" if kl is None else f"shade{scale.shade(kl)}"
    note = ("nearest to the chosen policy",) if chosen else ()
    return element(
        "rect",
        x=1,
        y=1,
        width=CELL - 2,
        height=ROW - 2,
        rx=2,
        fill="url(#hatch)" if kl is None else None,
        class_=f"cell {shade}" + (" picked" if chosen else ""),
        data_tip=tip(layer, what, found, *note),
    )


def _bits(kind: str, value: float) -> str:
    return "int8" if kind == "int8" else f"{KINDS[kind][:-1]}s: {value:g}"
