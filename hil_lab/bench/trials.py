"""One search of one method, kept episode by episode: what the comparison of searches is made of.

Candidates are compressed, calibrated and scored on validation images without training, so that
thousands of them can be afforded; latencies are those of the simulated board asked directly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock

from hil_lab.bench.methods import Method
from hil_lab.bench.trace import Trace
from hil_lab.commands.search import recipe_path
from hil_lab.console import Reporter
from hil_lab.recipe import Recipe, read_recipe
from hil_lab.runs import Run, open_run, start_run
from hil_lab.simboard.direct import DirectMeter
from hil_lab.sparing import Prediction, SparingEvaluator
from hil_lab.workbench import Workbench, versions
from host.compress.finetune import Training
from host.cost import LATENCY
from host.errors import CallerError, StoreError
from host.evaluate import COUNTS_VERSION, Evaluator, Figures
from host.kernel_times import KernelTimes, time_kernels, timed_programs
from host.layer_events import Events
from host.layer_times import LayerTimes, profile_layers, uniform_programs
from host.lower.build import Builder
from host.lower.targets import TARGETS
from host.marking import COUNTED
from host.policy import Policy, uncompressed
from host.proxy import LogitError
from host.search.episode import Episode
from host.search.loop import Evaluate, Memory, search
from host.search.reward import REWARDS, Reward
from host.search.strategy import Problem, Sparing, Strategy, make_strategy
from host.types import Evaluation

TARGET = "cortex-a72"
VALIDATION_IMAGES = 500
# For what shared layers send.
MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Trial:
    """A method on a network with a seed; `target` is a share of fp32's latency."""

    network: str
    method: Method
    target: float
    seed: int

    @property
    def file(self) -> str:
        """Where its episodes are kept, under the folder of all trials."""
        at = "front" if self.method.front else f"{self.target:g}"
        return f"{self.network}/{self.method.name}-{at}-seed{self.seed}.jsonl"

    @property
    def trace(self) -> str:
        """Where its trace is kept, under the same folder."""
        return str(Path(self.file).with_suffix(".trace"))


@dataclass
class Contest:
    """A network and all that its searches share: sensitivities, profiles and known evaluations.

    `marking` is how candidates are marked where the recipe's keys do not say otherwise.
    """

    network: str
    folder: Path
    overrides: Mapping[str, Any]
    reporter: Reporter
    marking: str = COUNTED
    known: dict[str, Evaluation] = field(default_factory=dict)

    @cached_property
    def bench(self) -> Workbench:
        """The parts of the experiment, in a run of their own; later sittings need no keys."""
        kept = self._kept or start_run(self._asked, versions())
        # The same folder may be named in several ways.
        if self.overrides and replace(kept.recipe, runs=self._asked.runs) != self._asked:
            raise CallerError(f"{self.folder} holds trials of other keys; name another --out")
        bench = Workbench(kept, self.reporter)
        bench.run.tie("counting", f"{COUNTS_VERSION}")
        return bench

    @property
    def origin(self) -> dict[str, str]:
        """Digests of the weights and images that all trials are of, and how they are counted."""
        _ = self.bench.network
        return self.bench.run.origin

    @property
    def recipe(self) -> Recipe:
        """The recipe of the network, as kept by earlier sittings; needs no data."""
        return self._kept.recipe if self._kept else self._asked

    @property
    def _asked(self) -> Recipe:
        ours = {"search.marking": self.marking, "runs": str(self._run_folder)}
        return read_recipe(recipe_path(self.network), {**ours, **self.overrides})

    @cached_property
    def _kept(self) -> Run | None:
        folder = self._run_folder
        return open_run(next(folder.iterdir())) if folder.is_dir() else None

    @property
    def _run_folder(self) -> Path:
        return self.folder / self.network / "bench-run"

    @property
    def reward(self) -> Reward:
        """The reward of every trial."""
        return REWARDS["absolute"](self.recipe.search.beta, LATENCY)

    @cached_property
    def meter(self) -> DirectMeter:
        """The simulated board, asked directly."""
        subject = self.bench.subject
        target = TARGETS[TARGET]()
        return DirectMeter(
            Builder(subject.graph, target, self.recipe.threads, source=subject.network)
        )

    @cached_property
    def reference_ms(self) -> float:
        """Latency of the optimised fp32 program."""
        subject = self.bench.subject
        figures = self.meter.figures(subject.network, uncompressed(subject.graph))
        return figures.latency_ms.value

    @cached_property
    def layer_times(self) -> LayerTimes:
        """Per-layer predictions from the profiles of uniform programs."""
        network = self.bench.subject.network
        return profile_layers(self.bench.space, lambda policy: self.meter.profile(network, policy))

    @cached_property
    def kernel_times(self) -> KernelTimes:
        """Predictions from the kernels of a program, from the same profiles."""
        subject, builder = self.bench.subject, self.meter.builder

        def rows(policy: Policy) -> list[dict[str, Any]]:
            return builder.rows(builder.plan(subject.network, policy), policy)

        timed = time_kernels(
            self.bench.space, rows, lambda policy: self.meter.profile(subject.network, policy)
        )
        return KernelTimes(rows, timed)

    @cached_property
    def events(self) -> Events:
        """Hardware events of the uncompressed network's layers."""
        network, graph = self.bench.subject.network, self.bench.subject.graph
        return self.meter.events(network, uncompressed(graph))

    @cached_property
    def proxy(self) -> LogitError:
        """Errors of logits, which all trials share."""
        return LogitError(self.bench.subject)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Scores candidates without training; what kept trials found out is known."""
        self._remember()
        training = Training(steps=0)
        return Evaluator(
            self.bench.subject,
            self.meter,
            training,
            VALIDATION_IMAGES,
            known=self.known,
            memory_bytes=MEMORY_BYTES,
            marking=self.recipe.search.marking,
        )

    def setup_measurements(self, method: Method) -> int:
        """Programs that are measured before a search: fp32, and those that predictions need."""
        if "program_cost" in method.needs:
            return len(timed_programs(self.bench.space))
        return len(uniform_programs(self.bench.space)) if "layer_cost" in method.needs else 1

    def problem(self, trial: Trial) -> Problem:
        """Return what the strategy of a trial may know."""
        needs = trial.method.needs
        return Problem(
            space=self.bench.space,
            reward=self.reward,
            target=trial.target * self.reference_ms,
            reference=self.reference_ms,
            episodes=trial.method.episodes,
            seed=trial.seed,
            sensitivity=self.bench.divergences if "sensitivity" in needs else {},
            layer_cost=self.layer_times if "layer_cost" in needs else None,
            residuals=self.bench.residuals if "residuals" in needs else {},
            program_cost=self.kernel_times if "program_cost" in needs else None,
            targets=tuple(t * self.reference_ms for t in trial.method.shares),
            settings=trial.method.settings,
            fisher=self.bench.fisher if "fisher" in needs else {},
            counters=self.events if "counters" in needs else {},
            proxy=self.proxy if "proxy" in needs else None,
            energy=self.bench.energy if "energy" in needs else None,
        )

    def trace(self, trial: Trial) -> Trace:
        """Return the trace of a trial: as it is kept, else of the trial, which is run."""
        path = self.folder / trial.trace
        if path.is_file() and len((kept := Trace.read(path)).steps) == trial.method.episodes:
            return kept
        made = Trace.of(self.run(trial), self.reference_ms, self.setup_measurements(trial.method))
        made.write(path)
        return made

    def run(self, trial: Trial) -> list[Episode]:
        """Run a trial, or go on with it, and return its episodes; another process waits for it."""
        path = self.folder / trial.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            past = read_episodes(path)[: trial.method.episodes]
            return past if len(past) == trial.method.episodes else self._go_on(trial, past)

    def _go_on(self, trial: Trial, past: Sequence[Episode]) -> list[Episode]:
        path, problem = self.folder / trial.file, self.problem(trial)
        what = f"{trial.network} {path.stem}"
        # Written anew: the last line may have been cut short.
        with (
            path.open("w") as file,
            self.reporter.progress("search", what, trial.method.episodes) as advance,
        ):

            def record(episode: Episode) -> None:
                write_episode(file, episode)
                advance(episode.number + 1, "")

            for episode in past:
                record(episode)

            strategy = make_strategy(trial.method.strategy, problem)
            memory = Memory(record, lambda number, state: None)
            return search(problem, strategy, self._evaluate(strategy), memory, past=past)

    def _evaluate(self, strategy: Strategy) -> Evaluate:
        """Return the evaluator; it measures what the strategy holds to be worth it."""
        if not isinstance(strategy, Sparing):
            return self.evaluator

        network = self.bench.subject.network

        def measure(policy: Policy) -> Figures:
            return self.meter.figures(network, policy)

        def size_bytes(policy: Policy) -> int:
            return measure(policy).size_bytes

        prediction = Prediction(strategy, size_bytes, self.latency_ms)
        return SparingEvaluator(strategy, self.evaluator, measure, prediction)

    def latency_ms(self, policy: Policy) -> float:
        """Return the predicted latency of a policy."""
        return sum(self.kernel_times(policy).values())

    def _remember(self) -> None:
        """Take over the evaluations of all trials that are kept: equal policies score equally.

        But those with a predicted latency: what one method did not ask for, another may.
        """
        for path in sorted((self.folder / self.network).glob("*.jsonl")):
            for episode in filter(lambda episode: episode.measured, read_episodes(path)):
                self.known.setdefault(episode.policy.digest(), episode.evaluation)


def trials(
    networks: Sequence[str],
    chosen: Sequence[Method],
    seeds: Sequence[int],
) -> Iterator[Trial]:
    """Yield every trial, those of front methods once for all targets."""
    for network in networks:
        for seed in seeds:
            for method in chosen:
                for target in method.shares[:1] if method.front else method.shares:
                    yield Trial(network, method, target, seed)


def read_episodes(path: Path) -> list[Episode]:
    """Return the episodes of a kept trial; a line that was cut short is left out."""
    if not path.is_file():
        return []
    episodes: list[Episode] = []
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if line["number"] != len(episodes):
            raise StoreError(f"{path}: episode {line['number']} out of order; remove the file")
        policy = Policy.from_dict(line["policy"])
        evaluation = Evaluation.from_dict(line["evaluation"])
        episodes.append(Episode(line["number"], policy, evaluation, line["reward"]))
    return episodes


def write_episode(file: TextIO, episode: Episode) -> None:
    """Append an episode to a kept trial."""
    line = {
        "number": episode.number,
        "policy": episode.policy.to_dict(),
        "evaluation": episode.evaluation.to_dict(),
        "reward": episode.reward,
    }
    file.write(json.dumps(line) + "\n")
    file.flush()
