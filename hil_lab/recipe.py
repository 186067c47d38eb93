"""Recipes: TOML in, frozen dataclasses out; unknown keys are refused by their path."""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from host.errors import RecipeError
from host.marking import COUNTED, MARKINGS
from host.registry import check_name, did_you_mean

T = TypeVar("T")
# What the latency of an evaluation is of, where a recipe names several boards.
FLEETS = ("each", "median", "p90")
ACCELERATOR = "accelerator"
ENERGIES = (ACCELERATOR, "board")


@dataclass(frozen=True, slots=True)
class SearchTable:
    """`[search]`: what looks for the policy, and how long."""

    strategy: str = "frontier"
    # What targets count: latency, energy, or size, the bytes of weights, scales and tables.
    cost: str = "latency"
    # The cost as a fraction of the optimised fp32 program's; several give one search each.
    target: tuple[float, ...] = (0.3,)
    # Whose energy strategies see that save it: a modelled "accelerator"'s, or the "board"'s.
    energy: str = "accelerator"
    episodes: int = 100
    seed: int = 1
    reward: str = "absolute"
    beta: float = -3.0
    # Kept channels are a multiple of this.
    round_to: int = 8
    max_mix_bits: int = 6
    # Layers that stay fp32 and whole.
    freeze: tuple[str, ...] = ()
    # How the answers of candidates are marked: "counted", or "expected" of their margins, which
    # says more where images are few.
    marking: str = COUNTED
    # Stop counting the images of a candidate that cannot come near the best one so far.
    early_stop: bool = False
    # MB for what layers send that candidates share, where they are not trained; 0: none.
    activations_mb: int = 1024
    # Hyper-parameters of the strategy's agent, by name.
    agent: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.target or not all(0.0 < t <= 1.0 for t in self.target):
            raise RecipeError(f"search.target: must lie in (0, 1], got {list(self.target)}")
        check_name("search.energy", self.energy, ENERGIES)
        check_name("search.marking", self.marking, MARKINGS)
        if self.early_stop and self.marking != COUNTED:
            raise RecipeError('search.early_stop: counts answers; leave search.marking "counted"')
        if self.episodes < 1:
            raise RecipeError(f"search.episodes: must be at least 1, got {self.episodes}")
        if self.round_to < 1:
            raise RecipeError(f"search.round_to: must be at least 1, got {self.round_to}")
        if self.activations_mb < 0:
            raise RecipeError(f"search.activations_mb: must not be negative: {self.activations_mb}")


@dataclass(frozen=True, slots=True)
class TrainTable:
    """`[train]`: how the network is trained where no checkpoint is given; 0 epochs: its default."""

    epochs: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FinetuneTable:
    """`[finetune]`: quantization-aware training of candidates and of the chosen policy."""

    search_steps: int = 20
    search_lr: float = 0.01
    # Of the network between two stages, where a strategy has stages.
    stage_epochs: int = 5
    stage_lr: float = 0.02
    # The share of its steps over which the rate rises: high rates can undo what was solved.
    stage_warmup: float = 0.0
    final_epochs: int = 5
    final_lr: float = 0.02
    batch_size: int = 128
    # The share of the loss that asks for the answers of the network that is compressed.
    distillation: float = 0.0
    # The side of a square that is blackened in every image (cutout), between stages and at the end.
    cutout_px: int = 0
    # Train networks that are not quantized in bfloat16: faster where the processor multiplies it.
    half: bool = False
    # Solve the weights of compressed layers for the uncompressed ones' answers, before training.
    reconstruction: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.distillation <= 1:
            raise RecipeError(f"finetune.distillation: must lie in [0, 1], got {self.distillation}")
        if not 0 <= self.stage_warmup <= 1:
            raise RecipeError(f"finetune.stage_warmup: must lie in [0, 1], got {self.stage_warmup}")
        if self.cutout_px < 0:
            raise RecipeError(f"finetune.cutout_px: must not be negative, got {self.cutout_px}")


@dataclass(frozen=True, slots=True)
class MeasureTable:
    """`[measure]`: the measurement protocols while searching and for the report."""

    search: str = "search"
    report: str = "report"
    # With several boards: a program on each one of them, or on all for their "median" or "p90".
    fleet: str = "each"

    def __post_init__(self) -> None:
        check_name("measure.fleet", self.fleet, FLEETS)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One search, complete: what, on which board, how, and where it is kept."""

    model: str
    data: str
    checkpoint: str | None = None
    data_dir: str | None = None
    # One board, or several of a kind; selectors of an inventory too.
    board: tuple[str, ...] = ("sim:rpi4",)
    threads: int = 1
    # Images of the validation split that score a candidate; 0: all of them.
    validation_images: int = 0
    sensitivity_images: int = 256
    runs: str = "runs"
    search: SearchTable = field(default_factory=SearchTable)
    train: TrainTable = field(default_factory=TrainTable)
    finetune: FinetuneTable = field(default_factory=FinetuneTable)
    measure: MeasureTable = field(default_factory=MeasureTable)

    def __post_init__(self) -> None:
        if not self.board:
            raise RecipeError("board: must name a board")

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as JSON."""
        return asdict(self)


def read_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a TOML recipe; `overrides` are dotted keys such as `search.seed`."""
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError as e:
        raise RecipeError(f"{path}: no such recipe") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise RecipeError(f"{path}: {e}") from e
    for key, value in (overrides or {}).items():
        put(table, key, value)
    try:
        return build(Recipe, table)
    except RecipeError as e:
        raise RecipeError(f"{path.name}: {e}") from e


def put(table: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key."""
    *parents, last = key.split(".")
    for parent in parents:
        inner = table.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"{key}: {parent} is not a table")
        table = inner
    table[last] = value


def build(cls: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """Make a dataclass from a table; raises RecipeError that starts with the path of the key."""
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise RecipeError(f"{where}{key}: unknown key{did_you_mean(key, known)}")
    values = {}
    for name, spec in known.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], f"{where}{name}")
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise RecipeError(f"{where}{name}: must be given")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where}: must be a table")
        return build(hint, value, f"{where}.")
    if get_origin(hint) in (Union, types.UnionType):
        inner = [t for t in get_args(hint) if t is not type(None)]
        return None if value is None else _convert(inner[0], value, where)
    if get_origin(hint) is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_convert(get_args(hint)[0], v, where) for v in items)
    if get_origin(hint) is not None:
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where}: must be a table")
        return dict(value)
    return _scalar(hint, value, where)


def _scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise RecipeError(f"{where}: must be {_NAMES[hint]}, got {value!r}")
    return value


_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
