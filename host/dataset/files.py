"""Tables as files that others read: Parquet, CSV, and the datasheet beside them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from host.dataset.table import DataTable
from host.errors import CallerError, StoreError
from host.registry import did_you_mean

METADATA = b"hil-lab"


@dataclass(frozen=True)
class Datasheet:
    """What a reader must know of a table: where it is from, and what its columns mean."""

    name: str
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]

    def to_dict(self, table: DataTable) -> dict[str, Any]:
        """Return the sheet as JSON, with the columns and boards of a table."""
        return {
            **asdict(self),
            "rows": len(table.rows),
            "columns": [asdict(column) for column in table.columns],
            "boards": _counts(table, "board"),
            "fingerprints": _counts(table, "fingerprint"),
            "protocols": _counts(table, "protocol"),
            "verdicts": _counts(table, "verdict"),
        }

    def markdown(self, table: DataTable, files: Sequence[Path]) -> str:
        """Return the sheet for a person."""
        facts = self.to_dict(table)
        named = ", ".join(f"`{path.name}`" for path in files)
        lines = [
            f"# Dataset {self.name}",
            "",
            f"{facts['rows']} rows in {named}: a row is one program, measured on one board.",
            "",
            "## How it was made",
            "Measured with hil-lab; the recipe, resolved:",
            "```json",
            json.dumps(dict(self.recipe), indent=1),
            "```",
            "| | |",
            "| --- | --- |",
            *(f"| {key} | {_said(facts[key])} |" for key in ("boards", "fingerprints")),
            *(f"| {key} | {_said(facts[key])} |" for key in ("protocols", "verdicts")),
            f"| versions | {_said(self.versions)} |",
            "",
            "Rows of unlike fingerprints or protocol numbers must not be mixed. Latencies are "
            "medians; every timed inference is in `samples_ns`. An empty cell is unknown, "
            "never zero.",
            "",
            "## Columns",
            "| column | unit | meaning |",
            "| --- | --- | --- |",
            *(f"| `{c.name}` | {c.unit} | {c.meaning} |" for c in table.columns),
        ]
        return "\n".join(lines) + "\n"


def write(path: Path, table: DataTable, sheet: Datasheet) -> None:
    """Write a table by its suffix; raises CallerError for another, StoreError for a bad disk."""
    suffix = path.suffix
    if suffix not in WRITERS:
        raise CallerError(f'"{path}": unknown suffix "{suffix}"{did_you_mean(suffix, WRITERS)}')
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[suffix](part, table, sheet)
        part.replace(path)
    except OSError as e:
        raise StoreError(f"cannot write {path}: {e.strerror or e}") from e


def write_sheet(path: Path, table: DataTable, sheet: Datasheet, files: Sequence[Path]) -> None:
    """Write the datasheet of some files."""
    try:
        path.write_text(sheet.markdown(table, files))
    except OSError as e:
        raise StoreError(f"cannot write {path}: {e.strerror}") from e


def _parquet(path: Path, table: DataTable, sheet: Datasheet) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [column.name for column in table.columns]
    arrays = [pa.array([row[name] for row in table.rows]) for name in names]
    fields = [
        pa.field(
            c.name, a.type, metadata={b"unit": c.unit.encode(), b"meaning": c.meaning.encode()}
        )
        for c, a in zip(table.columns, arrays, strict=True)
    ]
    metadata = {METADATA: json.dumps(sheet.to_dict(table)).encode()}
    made = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))
    pq.write_table(made, path, compression="zstd")


def _csv(path: Path, table: DataTable, sheet: Datasheet) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([column.name for column in table.columns])
        writer.writerows([_cell(row[c.name]) for c in table.columns] for row in table.rows)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


Writer = Callable[[Path, DataTable, Datasheet], None]
WRITERS: dict[str, Writer] = {".parquet": _parquet, ".csv": _csv}


def _counts(table: DataTable, name: str) -> dict[str, int]:
    return dict(sorted(Counter(str(row.get(name) or "none") for row in table.rows).items()))


def _said(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in counts.items())
