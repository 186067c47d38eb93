"""Dataset folders: the recipe of a dataset, its store, and the boards that fill it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hil_lab.console import Reporter
from hil_lab.inventory import board_names
from hil_lab.leased import Wanted, lease, reach, watch_of
from hil_lab.recipe import build, put
from hil_lab.workbench import versions
from host.boards.protocol import PROTOCOLS
from host.crew import Crew, OnDrop
from host.dataset.anchor import anchor_program
from host.dataset.collect import Collector, Lane, Watched
from host.dataset.files import Datasheet
from host.dataset.kernels import KernelRanges, KernelSpace
from host.dataset.networks import LayerSpace, PolicySpace, Traced
from host.dataset.records import Records
from host.dataset.sampling import SAMPLERS
from host.dataset.spaces import ProgramSpace
from host.dataset.table import DataTable, table_of
from host.errors import CallerError, RecipeError, StoreError
from host.graph import trace_with_plan
from host.lower.targets import TARGETS, Target, target_of
from host.models import make_network
from host.models.zoo import default_shape
from host.registry import check_name, did_you_mean
from host.store import Store

RECIPE, STORE, ANCHOR, DEFAULT_FOLDER = "dataset.json", "store.db", "anchor", Path("datasets")
SPACES = ("kernels", "layers", "policies")
SHARES = ("one", "all")


@dataclass(frozen=True, slots=True)
class DatasetRecipe:
    """What a dataset holds: programs of a space, how they are drawn, where they are measured."""

    name: str
    # kernels: single layers of any size; layers: those of a network; policies: whole networks.
    what: str = "kernels"
    count: int = 500
    # random, grid, or uncertain: those that a forecast of latency is least sure of.
    sample: str = "random"
    seed: int = 1
    board: tuple[str, ...] = ("sim:rpi4",)
    # A program is measured on one of the boards, or on all of them.
    boards: str = "one"
    protocol: str = "search"
    threads: int = 1
    # The network of layers and policies, and its input (C, H, W) where it is not the usual one.
    model: str = ""
    input: tuple[int, ...] = ()
    kernels: KernelRanges = field(default_factory=KernelRanges)

    def __post_init__(self) -> None:
        for key, known in (("what", SPACES), ("sample", SAMPLERS), ("boards", SHARES)):
            check_name(key, getattr(self, key), known)
        check_name("protocol", self.protocol, PROTOCOLS)
        if self.count < 1:
            raise RecipeError(f"count: must be at least 1, got {self.count}")
        if self.what != "kernels" and not self.model:
            raise RecipeError(f"model: must name the network whose {self.what} are measured")
        if self.input and len(self.input) != 3:
            raise RecipeError(f"input: give channels, height and width, got {list(self.input)}")
        if not self.name or "/" in self.name:
            raise RecipeError(f'name: must be a folder\'s name, got "{self.name}"')


def read_dataset_recipe(path: Path, overrides: Mapping[str, Any]) -> DatasetRecipe:
    """Read a TOML recipe; its name is the file's where it gives none."""
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError as e:
        raise RecipeError(f"{path}: no such recipe") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise RecipeError(f"{path}: {e}") from e
    for key, value in {"name": path.stem, **table, **overrides}.items():
        put(table, key, value)
    try:
        return build(DatasetRecipe, table)
    except RecipeError as e:
        raise RecipeError(f"{path.name}: {e}") from e


@dataclass(frozen=True)
class Dataset:
    """One dataset's folder."""

    folder: Path

    @property
    def recipe(self) -> DatasetRecipe:
        """The recipe that it was begun with."""
        return build(DatasetRecipe, json.loads((self.folder / RECIPE).read_text())["recipe"])

    @contextmanager
    def records(self) -> Iterator[Records]:
        """Yield what is there; raises CallerError while another process collects."""
        store = Store(self.folder / STORE)
        try:
            yield Records(store)
        finally:
            store.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the dataset against a second process."""
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout as e:
            raise CallerError(f"{self.folder} is being collected by another process") from e

    def table(self) -> DataTable:
        """Return everything that was observed."""
        recipe = self.recipe
        with self.records() as records:
            return table_of(records, space_of(recipe, TARGETS[self._target]()))

    @property
    def sheet(self) -> Datasheet:
        """Return what a reader of the table must know."""
        kept = json.loads((self.folder / RECIPE).read_text())
        return Datasheet(self.recipe.name, kept["recipe"], kept["versions"])

    @property
    def _target(self) -> str:
        kept: str = json.loads((self.folder / RECIPE).read_text())["target"]
        return kept


def open_dataset(name: str) -> Dataset:
    """Return a dataset by folder or name; raises CallerError where there is none."""
    for folder in (Path(name), DEFAULT_FOLDER / name):
        if (folder / RECIPE).is_file():
            return Dataset(folder)
    known = [path.parent.name for path in DEFAULT_FOLDER.glob(f"*/{RECIPE}")]
    raise CallerError(f'no dataset "{name}"{did_you_mean(name, known)}')


def collect(recipe: DatasetRecipe, folder: Path, reporter: Reporter) -> tuple[Dataset, int]:
    """Begin a dataset or go on with it; return it and how many programs are measured.

    Only `count`, `board` and `boards` may change on the way.
    """
    with ExitStack() as stack:
        names = board_names(recipe.board)
        wanted = Wanted(names, f"dataset {recipe.name}", reporter, _say(reporter))
        clients, info = reach(wanted, stack)
        target = target_of(info.arch)
        dataset = _begun(recipe, folder, target)
        stack.enter_context(dataset.locked())
        records = stack.enter_context(dataset.records())
        sessions = lease(wanted, stack, clients)
        anchor = anchor_program(target, dataset.folder / ANCHOR, recipe.threads)
        protocol = PROTOCOLS[recipe.protocol]
        boards = [Watched(s, watch_of(s, records.store, anchor, protocol)) for s in sessions]
        lanes = _lanes(recipe, boards, reporter)
        for lane in lanes:
            stack.callback(lane.close)
        sampler = SAMPLERS[recipe.sample](recipe.seed)
        space = space_of(recipe, target)
        collector = Collector(space, sampler, records, lanes, protocol)
        with reporter.progress("collect", recipe.name, recipe.count) as advance:
            return dataset, collector.collect(recipe.count, advance)


def space_of(recipe: DatasetRecipe, target: Target) -> ProgramSpace:
    """Return the programs that a recipe draws from."""
    if recipe.what == "kernels":
        return KernelSpace(target, recipe.threads, ranges=recipe.kernels)
    shape, classes = default_shape(recipe.model)
    if recipe.input:
        shape = (recipe.input[0], recipe.input[1], recipe.input[2])
    network = make_network(recipe.model, classes=classes, input_shape=shape)
    traced = Traced(network, *trace_with_plan(network, recipe.model, shape, classes))
    if recipe.what == "layers":
        return LayerSpace(target, recipe.threads, traced=traced)
    return PolicySpace(traced, target, recipe.threads)


def _begun(recipe: DatasetRecipe, folder: Path, target: Target) -> Dataset:
    dataset = Dataset(folder / recipe.name)
    path = dataset.folder / RECIPE
    if not path.is_file():
        kept = {"recipe": asdict(recipe), "versions": versions(), "target": target.name}
        part = path.with_suffix(".part")
        try:
            dataset.folder.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(kept, indent=1))
            part.replace(path)
        except OSError as e:
            raise StoreError(
                f"cannot write {path}: {e.strerror}; free some space, then collect again"
            ) from e
    there, asked = asdict(dataset.recipe), asdict(recipe)
    apart = [key for key in asked if key not in _FREE and asked[key] != there[key]]
    if apart:
        raise CallerError(
            f"{dataset.folder} was begun with another {', '.join(apart)}; give this one another "
            "name"
        )
    return dataset


_FREE = ("count", "board", "boards")


def _lanes(recipe: DatasetRecipe, boards: list[Watched], reporter: Reporter) -> list[Lane]:
    if recipe.boards == "all":
        return [_crew([board], reporter) for board in boards]
    return [_crew(boards, reporter)]


def _crew(boards: list[Watched], reporter: Reporter) -> Lane:
    return Crew(boards, _say(reporter), revive=Watched.revive)


def _say(reporter: Reporter) -> OnDrop:
    return lambda why: reporter.say(f"dropped  {why}; going on without this board")
