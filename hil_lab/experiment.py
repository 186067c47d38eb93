"""One search from recipe to result, in named stages; every stage resumes from what it left.

This is the wiring: here, and nowhere else, search, network, compiler, board and store meet.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from hil_lab.console import Reporter
from hil_lab.inventory import open_board
from hil_lab.recipe import Recipe
from hil_lab.runs import Run
from host.boards.client import BoardClient
from host.boards.protocol import PROTOCOLS
from host.boards.session import BoardSession
from host.compress.candidate import compress
from host.compress.finetune import Training
from host.data import Data, load_data
from host.errors import CallerError, PolicyError, StoreError
from host.evaluate import Evaluator, Meter, Subject
from host.graph import trace_with_plan
from host.layer_times import LayerTimes, profile_layers, uniform_programs
from host.lower.build import Builder
from host.lower.importer import import_module
from host.lower.objects import default_cache
from host.lower.targets import TARGETS, Target, refusal
from host.models import load_checkpoint, make_network
from host.policy import Policy, Space, uncompressed
from host.registry import did_you_mean
from host.search import checkpoint
from host.search.episode import Episode, best
from host.search.loop import Memory, search
from host.search.reward import REWARDS
from host.search.strategy import Problem, State, make_strategy
from host.sensitivity.measure import measure as measure_sensitivity
from host.sensitivity.table import SensitivityTable
from host.store import Store
from host.train import default_training, train

ARCH_TARGETS = {"aarch64": "cortex-a72", "x86_64": "x86-64"}
STORE = "store.db"
TRAINED, REFERENCE, PROFILES = "network.safetensors", "reference.json", "layer_times.json"
SENSITIVITY = "sensitivity.json"
# Strategies that weigh layers by predicted times.
PREDICTING = ("greedy", "galen-joint")
LEASE_WAIT_S = 600.0


def versions() -> dict[str, str]:
    """Return what a result depends on beside its recipe."""
    names = ("hil-lab", "torch", "apache-tvm", "apache-tvm-ffi", "torch-pruning", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


@dataclass
class Workbench:
    """An experiment's parts, made on first use; a leased board makes it complete."""

    run: Run
    reporter: Reporter

    @cached_property
    def recipe(self) -> Recipe:
        """The run's resolved recipe."""
        return self.run.recipe

    @cached_property
    def data(self) -> Data:
        """The data set, normalised for the network."""
        return load_data(self.recipe.data, self.recipe.data_dir)

    @cached_property
    def network(self) -> nn.Module:
        """The trained network: the recipe's checkpoint, or trained once and kept in the run."""
        recipe, data = self.recipe, self.data
        network = make_network(
            recipe.model, classes=data.classes, input_shape=data.input_shape, seed=recipe.train.seed
        )
        kept = self.run.path(TRAINED)
        if recipe.checkpoint:
            load_checkpoint(network, Path(recipe.checkpoint).expanduser())
        elif kept.is_file():
            network.load_state_dict(load_file(kept))
        else:
            # What has no kernel is found out before hours of training.
            import_module(network, data.input_shape)
            network = self._train(kept)
        return network.eval()

    def _train(self, kept: Path) -> nn.Module:
        recipe = self.recipe
        training = default_training(recipe.model, self.data)
        if recipe.train.epochs:
            training = Training(**{**asdict(training), "epochs": recipe.train.epochs})
        per_epoch = len(self.data.train) // min(training.batch_size, len(self.data.train))
        what = f"{recipe.model} on {recipe.data}"
        with self.reporter.progress("train", what, training.epochs) as advance:
            trained = train(
                recipe.model,
                self.data,
                training=training,
                seed=recipe.train.seed,
                on_progress=lambda p: advance(
                    p.step // per_epoch, f"{p.validation:.1%} validation" if p.validation else ""
                ),
            )
            advance(training.epochs, f"{trained.validation:.1%} validation")
        save_network(trained.network, kept)
        self.run.event("trained", validation=trained.validation)
        return trained.network

    @cached_property
    def subject(self) -> Subject:
        """The network with its layers and channel groups."""
        network, shape = self.network, self.data.input_shape
        graph, plan = trace_with_plan(network, self.recipe.model, shape, self.data.classes)
        return Subject(network, graph, plan, self.data)

    @cached_property
    def space(self) -> Space:
        """The legal policies of the recipe."""
        table, graph = self.recipe.search, self.subject.graph
        names = [layer.name for layer in graph.layers]
        for name in table.freeze:
            if name not in names:
                raise PolicyError(f"search.freeze: no layer {name!r}{did_you_mean(name, names)}")
        return Space(graph, refusal, table.round_to, table.max_mix_bits, frozenset(table.freeze))

    @cached_property
    def sensitivity(self) -> SensitivityTable:
        """The KL table, cached between runs by network and data."""
        recipe, subject = self.recipe, self.subject
        layers = len(subject.graph.layers)
        with self.reporter.progress("sense", f"{layers} layers", layers) as advance:
            table = measure_sensitivity(
                subject.network,
                subject.graph,
                subject.plan,
                subject.data,
                images=recipe.sensitivity_images,
                cache_dir=default_cache() / "sensitivity",
                on_progress=lambda done, total: advance(done * layers // total, ""),
            )
            advance(layers, "")
        self.run.write(SENSITIVITY, table.to_dict())
        return table


def save_network(network: nn.Module, path: Path) -> None:
    """Write a network's tensors as safetensors, atomically."""
    tensors = {name: t.detach().clone().contiguous() for name, t in network.state_dict().items()}
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as e:
        raise StoreError(f"cannot write {path}: {e}; free some space and resume the run") from e


@dataclass
class Search:
    """The search of one recipe on one leased board."""

    bench: Workbench
    session: BoardSession
    store: Store
    builder: Builder

    @cached_property
    def meter(self) -> Meter:
        """Latency on the leased board with the search's protocol."""
        return self.meter_for(self.bench.recipe.measure.search)

    def meter_for(self, name: str) -> Meter:
        """Return a meter with a protocol by name."""
        if name not in PROTOCOLS:
            raise CallerError(f'unknown protocol "{name}"{did_you_mean(name, PROTOCOLS)}')
        return Meter(self.builder, self.session, self.store, PROTOCOLS[name])

    @cached_property
    def reference_ms(self) -> float:
        """Latency of the optimised fp32 program, measured once per run."""
        run = self.bench.run
        if not run.path(REFERENCE).is_file():
            subject = self.bench.subject
            policy = uncompressed(subject.graph)
            artifact = self.meter.artifact(subject.network, policy, run.path("reference"))
            name, measurement, _ = self.meter.latency(artifact)
            value = {"latency_ms": measurement.latency_ms.median, "measurement": name}
            run.write(REFERENCE, value)
        return float(run.read(REFERENCE)["latency_ms"])

    @cached_property
    def layer_times(self) -> LayerTimes:
        """Per-layer predictions, profiled once per run."""
        run, space = self.bench.run, self.bench.space
        if not run.path(PROFILES).is_file():
            total = len(uniform_programs(space))
            with self.bench.reporter.progress("profile", self.session.info.name, total) as advance:
                done = 0

                def profile(policy: Policy) -> list[tuple[str, float]]:
                    nonlocal done
                    rows = list(self.meter.profile(self._prepared(policy), policy))
                    done += 1
                    advance(done, "")
                    return rows

                run.write(PROFILES, profile_layers(space, profile).to_dict())
        return LayerTimes(space, run.read(PROFILES))

    def _prepared(self, policy: Policy) -> nn.Module:
        subject = self.bench.subject
        return compress(subject.network, policy, subject.plan, subject.data)

    def problem(self, target: float) -> Problem:
        """Return what a strategy may know."""
        table = self.bench.recipe.search
        return Problem(
            space=self.bench.space,
            reward=REWARDS[table.reward](table.beta),
            target_ms=target * self.reference_ms,
            reference_ms=self.reference_ms,
            episodes=table.episodes,
            seed=table.seed,
            sensitivity=self.bench.sensitivity.all_features(),
            layer_ms=self.layer_times if table.strategy in PREDICTING else None,
            settings=table.agent,
        )

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluates candidates on validation images."""
        recipe = self.bench.recipe
        tuning = recipe.finetune
        training = Training(
            steps=tuning.search_steps, batch_size=tuning.batch_size, lr=tuning.search_lr
        )
        limit = recipe.validation_images or None
        return Evaluator(self.bench.subject, self.meter, training, limit, recipe.search.seed)

    def episodes(self, target: float) -> list[Episode]:
        """Run or go on with the search for one target."""
        run, table = self.bench.run, self.bench.recipe.search
        key, saved = f"{run.name}@{target}", run.path(f"at-{target}", "strategy.safetensors")
        saved.parent.mkdir(parents=True, exist_ok=True)
        past = self.store.episodes(key)
        problem = self.problem(target)
        state = _load_state(saved)
        what = f"{table.strategy}, target {target:.0%}"
        with self.bench.reporter.progress("search", what, table.episodes) as advance:

            def record(episode: Episode) -> None:
                self.store.add_episode(key, episode)
                run.event(
                    "episode",
                    target=target,
                    number=episode.number,
                    reward=episode.reward,
                    accuracy=episode.evaluation.accuracy,
                    latency_ms=episode.latency_ms,
                )
                so_far.append(episode)
                advance(len(so_far), describe(best(so_far), self.reference_ms))

            def save(number: int, strategy_state: State) -> None:
                checkpoint.save(saved, {"number": number, "strategy": strategy_state})

            so_far = list(past)
            for episode in past:
                self.evaluator.known.setdefault(episode.policy.digest(), episode.evaluation)
            episodes = search(
                problem,
                make_strategy(table.strategy, problem),
                self.evaluator,
                Memory(record, save),
                past=past,
                state=state,
            )
            advance(len(episodes), describe(best(episodes), self.reference_ms))
        return episodes


def describe(episode: Episode, reference_ms: float) -> str:
    """Return an episode in a few words."""
    ratio = episode.latency_ms / reference_ms
    return f"best {episode.evaluation.accuracy:.1%} at {ratio:.2f}x"


def _load_state(path: Path) -> tuple[int, State] | None:
    if not path.is_file():
        return None
    state = checkpoint.load(path)
    return int(state["number"]), state["strategy"]


def target_of(arch: str) -> Target:
    """Return the compilation target of a board's machine."""
    if arch not in ARCH_TARGETS:
        raise CallerError(f'no target for machine "{arch}"{did_you_mean(arch, ARCH_TARGETS)}')
    return TARGETS[ARCH_TARGETS[arch]]()


@contextmanager
def leased(bench: Workbench, board: str | None = None) -> Iterator[Search]:
    """Open the board of the recipe (or another), lease it, and yield the search on it."""
    recipe = bench.recipe
    with ExitStack() as stack:
        client = stack.enter_context(open_board(board or recipe.board))
        # A dead board is found out before the training, and nobody waits for a board meanwhile.
        target = target_of(client.describe().arch)
        builder = Builder(bench.subject.graph, target, recipe.threads)
        store = Store(bench.run.folder.parent / STORE)
        stack.callback(store.close)
        session = stack.enter_context(
            client.lease(bench.run.name, wait_s=_patience_s(bench, client))
        )
        yield Search(bench, session, store, builder)


def _patience_s(bench: Workbench, client: BoardClient) -> float:
    """Return how long to wait for a board: for its user to finish, never for a repair."""
    info = client.describe()
    if info.state == "quarantined":
        return 0.0
    if info.holder:
        bench.reporter.say(f"wait     {info.name} is leased by {info.holder}")
    return LEASE_WAIT_S
