"""One search from recipe to result, in named stages; every stage resumes from what it left.

This is the wiring: here, and nowhere else, search, network, compiler, board and store meet.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from hil_lab.inventory import open_board
from hil_lab.sparing import Prediction, SparingEvaluator
from hil_lab.workbench import Workbench
from host.boards.client import BoardClient
from host.boards.protocol import PROTOCOLS
from host.boards.session import BoardSession
from host.compress.candidate import shaped
from host.compress.finetune import Training
from host.cost import COSTS, LATENCY, SIZE, Cost
from host.errors import CallerError
from host.evaluate import Evaluator, recall
from host.exam import Floor, needed_accuracy
from host.kernel_times import KernelTimes, Timed, time_kernels, timed_programs
from host.layer_times import LayerTimes, profile_layers, uniform_programs
from host.lower.build import Builder
from host.lower.targets import TARGETS, Target
from host.meter import Meter
from host.policy import Policy, uncompressed
from host.registry import did_you_mean
from host.search import checkpoint
from host.search.episode import Episode, best
from host.search.loop import Evaluate, Memory, search
from host.search.reward import REWARDS
from host.search.strategy import (
    Need,
    Problem,
    Sparing,
    State,
    Strategy,
    make_strategy,
    strategies,
)
from host.store import Store
from host.types import Evaluation, Figure

ARCH_TARGETS = {"aarch64": "cortex-a72", "x86_64": "x86-64"}
STORE = "store.db"
REFERENCE, PROFILES, KERNELS = "reference.json", "layer_times.json", "kernel_times.json"
LEASE_WAIT_S = 600.0
# Where the episodes of a search for all targets are kept.
FRONT = "front"
# How far below the best reward so far an accuracy is still counted in full: strategies learn there.
EARLY_STOP_MARGIN = 0.05


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
        return LATENCY.of(self._reference)

    @cached_property
    def cost(self) -> Cost:
        """What the targets of the search count."""
        return COSTS[self.bench.recipe.search.cost]

    @cached_property
    def reference(self) -> float:
        """The same cost of the optimised fp32 program."""
        return self.cost.of(self._reference)

    @cached_property
    def _reference(self) -> Evaluation:
        """The figures of the optimised fp32 program, measured once per run; accuracy is unknown."""
        run, subject = self.bench.run, self.bench.subject
        if not run.path(REFERENCE).is_file():
            figures = self.meter.figures(subject.network, uncompressed(subject.graph))
            energy = figures.energy_mj
            value = {
                "latency_ms": figures.latency_ms.value,
                "energy_mj": None if energy is None else energy.value,
                "size_bytes": figures.size_bytes,
                "measurement": figures.measurement,
            }
            run.write(REFERENCE, value)
        kept = run.read(REFERENCE)
        latency, energy = (
            None if kept.get(name) is None else Figure(kept[name], "measured")
            for name in ("latency_ms", "energy_mj")
        )
        size_bytes = kept.get("size_bytes", 0)
        return Evaluation(1.0, 0, "validation", 0, 0, size_bytes, latency, energy)

    @cached_property
    def layer_times(self) -> LayerTimes:
        """Per-layer predictions, profiled once per run."""
        run, space = self.bench.run, self.bench.space
        if not run.path(PROFILES).is_file():
            with self._profiling(len(uniform_programs(space))) as profile:
                run.write(PROFILES, profile_layers(space, profile).to_dict())
        return LayerTimes(space, run.read(PROFILES))

    @cached_property
    def kernel_times(self) -> KernelTimes:
        """Predictions from the kernels of a program, some programs profiled once per run."""
        run, space = self.bench.run, self.bench.space
        if not run.path(KERNELS).is_file():
            with self._profiling(len(timed_programs(space))) as profile:
                timed = time_kernels(space, self._kernel_rows, profile)
                run.write(KERNELS, {"timed": [asdict(sample) for sample in timed]})
        timed = [Timed(**raw) for raw in run.read(KERNELS)["timed"]]
        return KernelTimes(self._kernel_rows, timed)

    @contextmanager
    def _profiling(self, programs: int) -> Iterator[Callable[[Policy], list[tuple[str, float]]]]:
        """Yield what profiles a program on the board and counts it as progress."""
        what = self.session.info.name
        with self.bench.reporter.progress("profile", what, programs) as advance:
            done = itertools.count(1)

            def profile(policy: Policy) -> list[tuple[str, float]]:
                rows = list(self.meter.profile(self._prepared(policy), policy))
                advance(next(done), "")
                return rows

            yield profile

    def _kernel_rows(self, policy: Policy) -> list[dict[str, Any]]:
        plan = self.builder.plan(self.bench.subject.network, policy)
        return self.builder.rows(plan, policy)

    def _prepared(self, policy: Policy) -> nn.Module:
        subject = self.bench.subject
        return shaped(subject.network, policy, subject.plan)  # times depend on no weight

    def problem(self, target: float) -> Problem:
        """Return what a strategy may know."""
        table = self.bench.recipe.search
        needs = strategies()[table.strategy].needs
        return Problem(
            space=self.bench.space,
            reward=REWARDS[table.reward](table.beta, self.cost),
            cost=self.cost,
            target=target * self.reference,
            reference=self.reference,
            episodes=table.episodes,
            seed=table.seed,
            sensitivity=self.bench.divergences if "sensitivity" in needs else {},
            layer_cost=self._predicted("layer_cost") if "layer_cost" in needs else None,
            program_cost=self._predicted("program_cost") if "program_cost" in needs else None,
            targets=tuple(share * self.reference for share in table.target),
            residuals=self.bench.residuals if "residuals" in needs else {},
            settings=table.agent,
            fisher=self.bench.fisher if "fisher" in needs else {},
            size_bytes=self.size_bytes,
        )

    def _predicted(self, need: Need) -> Callable[[Policy], Mapping[str, float]]:
        """Return what predicts the cost of every layer of a policy; bytes are exact."""
        if self.cost is SIZE:
            return self._layer_bytes
        times = self.kernel_times if need == "program_cost" else self.layer_times
        if self.cost is LATENCY:
            return times
        # As if all kernels drew the same power: what they draw besides, measurements correct.
        watts = self.reference / self.reference_ms
        return lambda policy: {layer: ms * watts for layer, ms in times(policy).items()}

    def _layer_bytes(self, policy: Policy) -> dict[str, float]:
        found = self.builder.layer_bytes(policy, lambda: self._prepared(policy))
        return {layer: float(count) for layer, count in found.items()}

    def size_bytes(self, policy: Policy) -> int:
        """Return the bytes of a policy's artifact, exactly, without building it."""
        return self.builder.size_bytes(policy, lambda: self._prepared(policy))

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluates candidates on validation images."""
        recipe = self.bench.recipe
        tuning = recipe.finetune
        training = Training(
            steps=tuning.search_steps, batch_size=tuning.batch_size, lr=tuning.search_lr
        )
        limit = recipe.validation_images or None
        return Evaluator(
            self.bench.subject,
            self.meter,
            training,
            limit,
            recipe.search.seed,
            store=self.store,
            memory_bytes=recipe.search.activations_mb * 1_000_000,
        )

    def searches(self) -> dict[float, list[Episode]]:
        """Run or go on with the search for every target; one search may serve them all."""
        table = self.bench.recipe.search
        if not strategies()[table.strategy].front or len(table.target) == 1:
            return {target: self.episodes(target) for target in table.target}
        front = self._episodes(table.target[0], FRONT)
        return {target: self._scored(front, target) for target in table.target}

    def episodes(self, target: float) -> list[Episode]:
        """Run or go on with the search for one target alone."""
        return self._episodes(target, f"{target}")

    def _scored(self, front: Sequence[Episode], target: float) -> list[Episode]:
        """Return the episodes of a front with their rewards for one target, kept under it."""
        key, score = f"{self.bench.run.name}@{target}", self.problem(target).score
        episodes = [replace(e, reward=score(e.evaluation)) for e in front]
        for episode in episodes[len(self.store.episodes(key)) :]:
            self.store.add_episode(key, episode)
        return episodes

    def _evaluate(self, strategy: Strategy) -> Evaluate:
        """Return what evaluates for a strategy: the board is asked for all, or what is worth it."""
        if not isinstance(strategy, Sparing):
            return self.evaluator
        prediction = Prediction(strategy, self.size_bytes, self._latency_ms, self.cost)
        return SparingEvaluator(
            strategy,
            replace(self.evaluator, meter=prediction),
            lambda policy: self.meter.figures(self._prepared(policy), policy),
            prediction,
        )

    def _latency_ms(self, policy: Policy) -> float:
        return sum(self.kernel_times(policy).values())

    def _episodes(self, target: float, name: str) -> list[Episode]:
        """Run or go on with the search for one target, under a name."""
        run, table = self.bench.run, self.bench.recipe.search
        key, saved = f"{run.name}@{name}", run.path(f"at-{name}", "strategy.safetensors")
        saved.parent.mkdir(parents=True, exist_ok=True)
        past = self.store.episodes(key)
        problem = self.problem(target)
        state = _load_state(saved)
        aim = name if name == FRONT else f"target {target:.0%}"
        what = f"{table.strategy}, {aim}"
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
                recall(self.evaluator.known, episode.policy, episode.evaluation)
            if table.early_stop and name != FRONT:
                self.evaluator.floor = floor_of(problem, so_far)
            strategy = make_strategy(table.strategy, problem)
            episodes = search(
                problem,
                strategy,
                self._evaluate(strategy),
                Memory(record, save),
                past=past,
                state=state,
            )
            advance(len(episodes), describe(best(episodes), self.reference_ms))
        return episodes


def floor_of(problem: Problem, so_far: Sequence[Episode]) -> Floor:
    """Return the accuracy below which a policy falls short of the best by more than a margin.

    It depends on recorded episodes alone, so that a resumed search stops the same counts.
    """

    def floor(known: Evaluation) -> float | None:
        if not so_far:
            return None
        return needed_accuracy(problem.score, known, best(so_far).reward - EARLY_STOP_MARGIN)

    return floor


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
        builder = Builder(bench.subject.graph, target, recipe.threads, source=bench.subject.network)
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
