"""One search from recipe to result, in named stages; every stage resumes from what it left.

This is the wiring: here, and nowhere else, search, network, compiler, board and store meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from hil_lab.abreast import SideBySide, SparingSideBySide
from hil_lab.groundwork import Groundwork
from hil_lab.leased import (
    LEASE_TTL_S,
    BoardMeter,
    LeasedBoards,
    Wanted,
    lease,
    reach,
    reference_program,
)
from hil_lab.memory import SearchMemory
from hil_lab.recipe import ACCELERATOR
from hil_lab.runs import FRONT
from hil_lab.sparing import Prediction, SparingEvaluator
from hil_lab.stages import StagedEvaluator, Stages
from hil_lab.workbench import Workbench
from host.compress.finetune import Training
from host.cost import COSTS, ENERGY, LATENCY, SIZE, Cost
from host.energy import BoardEnergy
from host.evaluate import Evaluator, Figures, recall
from host.exam import Floor, needed_accuracy
from host.lower.build import Builder
from host.lower.targets import target_of
from host.policy import Policy
from host.proxy import LogitError
from host.rack import Rack
from host.search.episode import Episode, best
from host.search.loop import Abreast, Evaluate, batch_size, search
from host.search.reward import REWARDS
from host.search.strategy import (
    EnergyOf,
    Judging,
    Need,
    Problem,
    Sparing,
    Staged,
    Strategy,
    make_strategy,
    strategies,
)
from host.store import Store
from host.types import Evaluation

STORE = "store.db"
# How far below the best reward so far an accuracy is still counted in full: strategies learn there.
EARLY_STOP_MARGIN = 0.05


@dataclass
class Search:
    """The search of one recipe on its leased boards."""

    bench: Workbench
    boards: LeasedBoards
    store: Store
    builder: Builder

    @property
    def meter(self) -> BoardMeter:
        """Latency with the search's protocol."""
        return self.boards.meter

    @cached_property
    def ground(self) -> Groundwork:
        """What is measured before the search."""
        return Groundwork(self.bench, self.boards, self.builder)

    @cached_property
    def reference_ms(self) -> float:
        """Latency of the optimised fp32 program."""
        return LATENCY.of(self.ground.reference)

    @cached_property
    def cost(self) -> Cost:
        """What the targets of the search count."""
        return COSTS[self.bench.recipe.search.cost]

    @cached_property
    def reference(self) -> float:
        """The same cost of the optimised fp32 program."""
        return self.cost.of(self.ground.reference)

    @cached_property
    def stages(self) -> Stages:
        """What candidates start from."""
        return Stages(self.bench)

    @cached_property
    def proxy(self) -> LogitError:
        """Errors of logits, each policy's once per process."""
        return LogitError(self.bench.subject)

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
            counters=self.ground.events if "counters" in needs else {},
            proxy=self.proxy if "proxy" in needs else None,
            energy=self._energy if "energy" in needs else None,
            loose=self.bench.loose if "loose" in needs else {},
            size_bytes=self.size_bytes,
        )

    @property
    def _energy(self) -> EnergyOf:
        """What tells energies: the accelerator's model or, where the recipe says so, the board."""
        if self.bench.recipe.search.energy == ACCELERATOR:
            return self.bench.energy
        # Refused before hours of search where the board has no power meter.
        ENERGY.of(self.ground.reference)
        return BoardEnergy(self.bench.subject.graph, self.ground.layer_times)

    def _predicted(self, need: Need) -> Callable[[Policy], Mapping[str, float]]:
        """Return what predicts the cost of every layer of a policy; bytes are exact."""
        if self.cost is SIZE:
            return self._layer_bytes
        ground = self.ground
        times = ground.kernel_times if need == "program_cost" else ground.layer_times
        if self.cost is LATENCY:
            return times
        # As if all kernels drew the same power: what they draw besides, measurements correct.
        watts = self.reference / self.reference_ms
        return lambda policy: {layer: ms * watts for layer, ms in times(policy).items()}

    def _layer_bytes(self, policy: Policy) -> dict[str, float]:
        found = self.builder.layer_bytes(policy, lambda: self.bench.subject.shaped(policy))
        return {layer: float(count) for layer, count in found.items()}

    def size_bytes(self, policy: Policy) -> int:
        """Return the bytes of a policy's artifact, exactly, without building it."""
        return self.builder.size_bytes(policy, lambda: self.bench.subject.shaped(policy))

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluates candidates on validation images."""
        recipe = self.bench.recipe
        tuning = recipe.finetune
        training = Training(
            steps=tuning.search_steps,
            batch_size=tuning.batch_size,
            lr=tuning.search_lr,
            distillation=tuning.distillation,
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
            marking=recipe.search.marking,
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

    def _evaluate(self, strategy: Strategy) -> Evaluate | Abreast:
        """Return what evaluates for a strategy: boards are asked for all or what is worth it.

        What starts from networks that are trained on the way is evaluated one by one.
        """
        meter, shape = self.meter, self.bench.subject.shaped
        abreast = meter if isinstance(meter, Rack) and self.boards.width > 1 else None
        if not isinstance(strategy, Sparing):
            if isinstance(strategy, Staged):
                return StagedEvaluator(strategy, self.stages, self.evaluator)
            if abreast:
                return Abreast(self.boards.width, SideBySide(self.evaluator, abreast, shape))
            return self.evaluator
        prediction = Prediction(strategy, self.size_bytes, self._latency_ms, self.cost)
        score = replace(self.evaluator, meter=prediction)

        def measure(policy: Policy) -> Figures:
            return meter.figures(shape(policy), policy)

        if isinstance(strategy, Staged):
            staged = StagedEvaluator(strategy, self.stages, score)
            return SparingEvaluator(strategy, staged, measure, prediction)
        if abreast:
            side_by_side = SparingSideBySide(strategy, score, abreast, shape, prediction)
            return Abreast(self.boards.width, side_by_side)
        return SparingEvaluator(strategy, score, measure, prediction)

    def _latency_ms(self, policy: Policy) -> float:
        return sum(self.ground.kernel_times(policy).values())

    def _episodes(self, target: float, name: str) -> list[Episode]:
        """Run or go on with the search for one target, under a name."""
        run, table = self.bench.run, self.bench.recipe.search
        kept = SearchMemory(run, self.store, name, target, self.reference, self.cost)
        past, problem = tuple(kept.so_far), self.problem(target)
        aim = name if name == FRONT else f"target {target:.0%}"
        what = f"{table.strategy}, {aim}"
        with self.bench.reporter.progress("search", what, table.episodes) as advance:
            for episode in past:
                recall(self.evaluator.known, episode.policy, episode.evaluation)
            strategy = make_strategy(table.strategy, problem)
            # Only where this reward is all that an accuracy is for.
            judged = name == FRONT or isinstance(strategy, Judging | Staged)
            if table.early_stop and not judged:
                together = batch_size(strategy, self.boards.width)
                self.evaluator.floor = floor_of(problem, kept.so_far, together)
            episodes = search(
                problem,
                strategy,
                self._evaluate(strategy),
                kept.memory(advance),
                past=past,
                state=kept.state,
            )
            advance(len(episodes), kept.note())
        return episodes


def floor_of(problem: Problem, so_far: Sequence[Episode], together: int = 1) -> Floor:
    """Return the accuracy below which a policy falls short of the best by more than a margin.

    It depends on recorded episodes alone, so that a resumed search stops the same counts: where
    some are evaluated together, on those before the batch.
    """

    def floor(known: Evaluation) -> float | None:
        before = so_far[: len(so_far) // together * together]
        if not before:
            return None
        return needed_accuracy(problem.score, known, best(before).reward - EARLY_STOP_MARGIN)

    return floor


@contextmanager
def leased(bench: Workbench, ttl_s: float = LEASE_TTL_S) -> Iterator[Search]:
    """Open the boards of the recipe, lease them, and yield the search on them."""
    with ExitStack() as stack:
        # A dead board is found out before the training, and nobody waits for a board meanwhile.
        wanted = Wanted.by(bench, ttl_s)
        clients, info = reach(wanted, stack)
        target, subject = target_of(info.arch), bench.subject
        builder = Builder(subject.graph, target, bench.recipe.threads, source=subject.network)
        store = Store(bench.run.folder.parent / STORE)
        stack.callback(store.close)
        anchor = reference_program(bench, builder)
        boards = LeasedBoards(bench, lease(wanted, stack, clients), store, builder, anchor)
        stack.callback(boards.close)
        yield Search(bench, boards, store, builder)
