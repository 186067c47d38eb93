"""A dataset as one table: a row for each program and board, its columns explained; no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from host.boards.types import Measurement
from host.dataset.records import Observation, Records, Sample
from host.dataset.spaces import ProgramSpace, Row
from host.surrogate.programs import ProgramModel
from protos.values import Counter, KernelTiming

Cells = dict[str, Any]
COUNTER = "counter_"


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds; unit "" for names and counts."""

    name: str
    unit: str
    meaning: str


COLUMNS = (
    Column("number", "", "number of the program in the dataset, from 0"),
    Column("structure", "", "digest of the program without its weights"),
    Column("layer_kind", "", "conv, depthwise or dense"),
    Column("in_channels", "", "input channels, or features of a dense layer"),
    Column("out_channels", "", "output channels, or features of a dense layer"),
    Column("size", "pixels", "height and width of the input; tokens of a dense layer"),
    Column("kernel", "pixels", "height and width of the kernel"),
    Column("stride", "pixels", "stride in both directions"),
    Column("padding", "pixels", "zeros on each side"),
    Column("mode", "", "fp32, int8 or mix (bit-serial)"),
    Column("weight_bits", "bits", "bits of a weight"),
    Column("act_bits", "bits", "bits of an activation"),
    Column("model", "", "the network of a policy"),
    Column("policy", "JSON", "what was done to every layer"),
    Column("macs", "", "multiply-accumulates of all kernels, padding included"),
    Column("bytes_moved", "bytes", "read and written by all kernels, weights apart"),
    Column("weight_bytes", "bytes", "weights that kernels read"),
    Column(
        "kernels",
        "",
        "the kernel table: of each call what it executes, moves, takes and counts",
    ),
    Column("latency_ms", "ms", "median of the whole program per inference"),
    Column("latency_low_ms", "ms", "lower bound of its 95 % interval"),
    Column("latency_high_ms", "ms", "upper bound of its 95 % interval"),
    Column("kernels_us", "us", "median sum of the profiled kernels"),
    Column("samples_ns", "ns", "every timed inference, in order"),
    Column("energy_mj", "mJ", "per inference, idle power included; empty without a meter"),
    Column("net_energy_mj", "mJ", "per inference above idle; empty where idle was not measured"),
    Column("temperature_start_c", "C", "before the first sample"),
    Column("temperature_end_c", "C", "after the last sample"),
    Column("clock_mhz", "MHz", "before the first sample"),
    Column("board", "", "name of the board"),
    Column("board_kind", "", "kind of the board"),
    Column("fingerprint", "", "digest of what numbers of boards must share to be compared"),
    Column("protocol", "", "mode of the measurement protocol"),
    Column("protocol_number", "", "its number: numbers of two protocols never mix"),
    Column("verdict", "", "trusted, suspect or failed"),
    Column("reasons", "", "why it is not trusted, or why the program failed"),
    Column("measurement", "", "name of the raw measurement in the dataset's store"),
    Column("measured_at", "UTC", "when it was kept"),
)


@dataclass(frozen=True)
class DataTable:
    """Rows of one set of columns."""

    columns: tuple[Column, ...]
    rows: tuple[Cells, ...]


def table_of(records: Records, space: ProgramSpace) -> DataTable:
    """Return everything that was observed; columns that no row fills are left out."""
    samples = {sample.number: sample for sample in records.samples()}
    rows = tuple(_row(records, space, samples[o.number], o) for o in records.observations())
    named = {name for row in rows for name, value in row.items() if value is not None}
    counters = sorted(name for name in named if name.startswith(COUNTER))
    counted = tuple(
        Column(name, "", f"{name.removeprefix(COUNTER)} per inference, over the timed window")
        for name in counters
    )
    columns = (*(c for c in COLUMNS if c.name in named), *counted)
    order = [column.name for column in columns]
    return DataTable(columns, tuple({name: row.get(name) for name in order} for row in rows))


def learned(rows: Sequence[Mapping[str, Any]], seed: int = 0) -> ProgramModel:
    """Return the forecast of latency that the rows of an exported table teach."""
    known = [row for row in rows if row["verdict"] != "failed"]
    model = ProgramModel(seed)
    model.fit([kernels_of(row) for row in known], [float(row["latency_ms"]) for row in known])
    return model


def kernels_of(row: Mapping[str, Any]) -> tuple[Row, ...]:
    """Return the kernel table of an exported row, as Parquet's readers or JSON give it."""
    cells = row["kernels"]
    parsed = json.loads(cells) if isinstance(cells, str) else cells
    return tuple(Row(**{name: cell[name] for name in Row.__slots__}) for cell in parsed)


def _row(records: Records, space: ProgramSpace, sample: Sample, seen: Observation) -> Cells:
    rows = seen.rows
    cells: Cells = {
        "number": sample.number,
        "structure": sample.structure,
        **space.columns(sample.spec),
        "macs": sum(row.macs for row in rows),
        "bytes_moved": sum(row.bytes_read + row.bytes_written for row in rows),
        "weight_bytes": sum(row.weight_bytes for row in rows),
        "kernels": _kernels(seen),
        "measured_at": seen.created_at,
    }
    if seen.measurement is None:
        return {**cells, "verdict": "failed", "reasons": seen.error}
    measured = _measured(records.store.measurement(seen.measurement))
    sums = seen.profile.sums_ns if seen.profile else ()
    whole = {"kernels_us": median(sums) / 1e3} if sums else {}
    return {**cells, **whole, **measured, "measurement": seen.measurement}


def _kernels(seen: Observation) -> list[Cells]:
    """Return the kernel table; with a profile, what each call took and counted."""
    timings: Sequence[KernelTiming | None] = (
        seen.profile.kernels if seen.profile else [None] * len(seen.rows)
    )
    return [
        {**asdict(row), **(_timed(timing) if timing else {})}
        for row, timing in zip(seen.rows, timings, strict=True)
    ]


def _timed(timing: KernelTiming) -> Cells:
    """Return the median of a call, and its events per run."""
    events = {COUNTER + c.name: c.value / len(timing.samples_ns) for c in timing.counters}
    return {"median_us": timing.median_us, **events}


def _measured(m: Measurement) -> Cells:
    interval = m.latency_ms
    first, last = m.blocks[0].start, m.blocks[-1].end
    return {
        "latency_ms": interval.median,
        "latency_low_ms": interval.low,
        "latency_high_ms": interval.high,
        "samples_ns": list(m.samples_ns),
        "energy_mj": m.energy_mj,
        "net_energy_mj": m.net_energy_mj,
        "temperature_start_c": first.temperature_c if first else None,
        "temperature_end_c": last.temperature_c if last else None,
        "clock_mhz": first.clock_mhz if first else None,
        "board": m.board,
        "board_kind": m.fingerprint.get("kind", ""),
        "fingerprint": m.fingerprint_digest,
        "protocol": m.protocol.mode,
        "protocol_number": m.protocol.number,
        "verdict": m.verdict,
        "reasons": "; ".join(m.reasons),
        **_counted(m),
    }


def _counted(m: Measurement) -> Cells:
    """Return events per inference; one that a block lacks is unknown, never zero."""
    blocks: list[dict[str, Counter]] = [{c.name: c for c in b.counters} for b in m.blocks]
    names = set.intersection(*(set(block) for block in blocks))
    runs = len(m.samples_ns)
    return {COUNTER + n: sum(block[n].value for block in blocks) / runs for n in names}
