"""Policy to Evaluation: compress, train a little, mark the answers, and ask a meter."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from host.canonical import digest
from host.compress.candidate import CALIBRATION_IMAGES, Settling, settling, shaped
from host.compress.finetune import Training, evaluating, finetune, ratio
from host.compress.plan import PruningPlan
from host.compress.pruners import RECONSTRUCTION, input_power
from host.compress.reconstruct import Teacher, teacher
from host.data import Data, SplitName
from host.exam import BATCH_IMAGES, Exam, Floor, grade, hopeless
from host.identity import arithmetic, data_digest, network_digest
from host.marking import COUNTED, EXPECTED, Floats, Labels, expected_right, margins
from host.policy import Policy, policy_bops, policy_macs
from host.prefix.shared import Batch, SharedPrefix
from host.types import AccuracySource, Evaluation, Figure, Graph

SEED_BITS = 63
# Bumped when compressing, training or counting changes what a policy scores.
COUNTS_VERSION = 3
# Gives the logits of a batch (its name, its images).
Answers = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Subject:
    """What is compressed: a trained network, its layers, its channel groups and its data.

    With `reconstruction`, compressed weights are solved to answer as the network's do.
    """

    network: nn.Module
    graph: Graph
    plan: PruningPlan
    data: Data
    reconstruction: bool = True

    @cached_property
    def teacher(self) -> Teacher | None:
        """What the network's layers answer to the calibration images, run once."""
        if not self.reconstruction:
            return None
        layers = [layer.name for layer in self.graph.layers]
        return teacher(self.network, layers, self.data.calibration(CALIBRATION_IMAGES))

    def settling(self, policy: Policy) -> Settling:
        """Return how the shaped network of a policy gets its ranges and weights."""
        plan = self.plan_of(policy)
        return settling(self.network, policy, plan, self.data, known=self.teacher)

    @cached_property
    def listened(self) -> PruningPlan:
        """The plan with the power of every layer's inputs, for pruners that weigh them."""
        layers = [layer.name for layer in self.graph.layers]
        images = self.data.calibration(CALIBRATION_IMAGES)
        return replace(self.plan, input_power=input_power(self.network, layers, images))

    def plan_of(self, policy: Policy) -> PruningPlan:
        """Return the plan with what the pruners of a policy need."""
        weighs = any(form.pruner == RECONSTRUCTION for form in policy.layers)
        return self.listened if weighs else self.plan

    def shaped(self, policy: Policy) -> nn.Module:
        """Return the pruned and quantized network of a policy before calibration."""
        return shaped(self.network, policy, self.plan_of(policy))

    def compressed(self, policy: Policy) -> nn.Module:
        """Return the compressed network of a policy, calibrated, not yet trained."""
        network = self.shaped(policy)
        self.settling(policy).settle(network)
        return network


@dataclass(frozen=True, slots=True)
class Figures:
    """What a program is and costs: its artifact, its bytes, and its measurement by name.

    `others` are further measurements behind the figures: those on the other boards of a fleet.
    """

    artifact: str
    size_bytes: int
    latency_ms: Figure
    energy_mj: Figure | None = None
    measurement: str = ""
    verdict: str = ""
    others: tuple[str, ...] = ()

    @property
    def measurements(self) -> tuple[str, ...]:
        """All measurements by name."""
        return tuple(name for name in (self.measurement, *self.others) if name)

    def to_evaluation(self) -> dict[str, Any]:
        """Return the fields of an evaluation that say what its program is and costs."""
        return {
            "size_bytes": self.size_bytes,
            "latency_ms": self.latency_ms,
            "energy_mj": self.energy_mj,
            "artifact": self.artifact,
            "measurements": self.measurements,
            "verdict": self.verdict,
        }


class ProgramMeter(Protocol):
    """Turns a compressed network into the figures of its program."""

    def figures(self, network: nn.Module, policy: Policy) -> Figures:
        """Build the program for latency alone and return its figures."""


class CountStore(Protocol):
    """Remembers correct answers between runs (host.store)."""

    def counts(self, setting: str, policy: str) -> tuple[float, ...]:
        """Return what is known, batch by batch; nothing for an unknown policy."""

    def keep_counts(self, setting: str, policy: str, counts: Sequence[float]) -> None:
        """Keep the counts of a policy."""


@dataclass
class Evaluator:
    """Evaluates policies of one subject; the same policy and seed give the same accuracy.

    `floor` stops the count of candidates that do not matter; `store` remembers counts between runs;
    `memory_bytes` is for what shared layers send, where candidates are not trained (0: none). The
    answers are counted, or `marking` is what they are expected to be (host.marking).
    """

    subject: Subject
    meter: ProgramMeter
    training: Training
    validation_images: int | None = None
    seed: int = 0
    known: dict[str, Evaluation] = field(default_factory=dict)
    floor: Floor | None = None
    store: CountStore | None = None
    memory_bytes: int = 0
    marking: str = COUNTED

    def __call__(self, policy: Policy) -> Evaluation:
        """Return the evaluation of a policy on validation images; equal policies are not redone."""
        if not self.knows(policy):
            self.known[policy.digest()] = self._evaluate(policy)
        return self.known[policy.digest()]

    def knows(self, policy: Policy) -> bool:
        """Whether the evaluation of a policy costs nothing any more."""
        name = policy.digest()
        return name in self.known and self._settled(self.known[name])

    def _settled(self, known: Evaluation) -> bool:
        """Whether an evaluation is complete, or as hopeless as it was when its count stopped."""
        total = len(self._exam.images)
        if known.samples >= total:
            return True
        floor = self.floor(known) if self.floor else None
        correct, looks = round(known.accuracy * known.samples), len(self._exam.sizes) - 1
        return floor is not None and hopeless(correct, known.samples, total, floor, looks=looks)

    def _evaluate(self, policy: Policy) -> Evaluation:
        start = time.perf_counter()
        subject, exam = self.subject, self._exam
        network = subject.shaped(policy)
        figures = self.meter.figures(network, policy)
        unscored = evaluation(subject.graph, policy, (1, 1), "validation", figures)
        floor = self.floor(unscored) if self.floor else None
        past = self.store.counts(self._setting, policy.digest()) if self.store else ()
        grader = _Grader(lambda: self._answering(network, policy), exam, past, self._marked)
        counts = grade(exam.sizes, grader, floor)
        if self.store and len(counts) > len(past):
            self.store.keep_counts(self._setting, policy.digest(), counts)
        samples = sum(exam.sizes[: len(counts)])
        return replace(
            unscored,
            accuracy=ratio((sum(counts), samples)),
            samples=samples,
            accuracy_source=self._source(cached=len(counts) <= len(past)),
            seconds=time.perf_counter() - start,
        )

    def _answering(self, network: nn.Module, policy: Policy) -> Answers:
        """Settle and train a network, and return what answers a batch of the exam with it."""
        subject, prefix = self.subject, self._prefix
        way = subject.settling(policy)
        if prefix:
            prefix.settle(network, way)
            prefixes = prefix.prefixes(network)
            return lambda name, x: prefix.run(network, prefixes, Batch(name, x))
        way.settle(network)
        if self.training.steps != 0:
            generator = torch.Generator().manual_seed(seed_of(policy, self.seed))
            finetune(
                network,
                subject.data,
                self.training,
                generator=generator,
                teacher=subject.network,
            )
        return lambda _, x: network(x)

    def _source(self, *, cached: bool) -> AccuracySource:
        if self.marking == EXPECTED:
            return "expected"
        return "cached" if cached else "measured"

    def _marked(self, number: int, logits: Tensor, labels: Labels) -> float:
        """Return how many answers to a batch are right, or are expected to be."""
        if self.marking != EXPECTED:
            return int((logits.argmax(1) == torch.from_numpy(labels)).sum())
        return expected_right(self._whole(number), margins(logits.numpy(), labels))

    def _whole(self, number: int) -> Floats:
        """Return the margins of a batch in the uncompressed network, which runs once."""
        if number not in self._margins:
            x, labels = self._exam.batch(number)
            with evaluating(self.subject.network), torch.inference_mode():
                self._margins[number] = margins(self.subject.network(x).numpy(), labels)
        return self._margins[number]

    @cached_property
    def _margins(self) -> dict[int, Floats]:
        return {}

    @property
    def _exam(self) -> Exam:
        # Only an order that knows nothing of the labels makes the first batches speak for the rest.
        return self._in_order if self.floor is None else self._shuffled

    @cached_property
    def _in_order(self) -> Exam:
        return Exam.of(self.subject.data, self.validation_images)

    @cached_property
    def _shuffled(self) -> Exam:
        return Exam.of(self.subject.data, self.validation_images, shuffled=True)

    @cached_property
    def _prefix(self) -> SharedPrefix | None:
        """What shared layers send; training changes all weights, so then nothing is shared."""
        if self.training.steps != 0 or not self.memory_bytes:
            return None
        subject = self.subject
        images = CALIBRATION_IMAGES + len(self._exam.images)
        example = subject.data.calibration(CALIBRATION_IMAGES)
        return SharedPrefix(subject.network, subject.graph, example, images, self.memory_bytes)

    @property
    def _setting(self) -> str:
        """Digest of all but the policy that the counts depend on."""
        trained = self.training.steps != 0
        training = [asdict(self.training), self.seed] if trained else None
        order = [self.validation_images, BATCH_IMAGES, self.floor is not None]
        settled = [CALIBRATION_IMAGES, self.subject.reconstruction]
        marking = [] if self.marking == COUNTED else [self.marking]
        return digest([COUNTS_VERSION, *self._origin, settled, training, order, *marking])

    @cached_property
    def _origin(self) -> list[object]:
        subject = self.subject
        images = data_digest(subject.data)
        return [network_digest(subject.network), images, arithmetic()]


@dataclass
class _Grader:
    """Correct answers of a batch by number: known, or of a network that is finished on demand."""

    finish: Callable[[], Answers]
    exam: Exam
    past: tuple[float, ...]
    marked: Callable[[int, Tensor, Labels], float]

    def __call__(self, number: int) -> float:
        if number < len(self.past):
            return self.past[number]
        answers = self._answers
        x, labels = self.exam.batch(number)
        with torch.inference_mode():
            return self.marked(number, answers(self.exam.name(number), x), labels)

    @cached_property
    def _answers(self) -> Answers:
        return self.finish()


def recall(known: dict[str, Evaluation], policy: Policy, past: Evaluation) -> None:
    """Take over an earlier evaluation, unless one of more images is known already."""
    name = policy.digest()
    if name not in known or known[name].samples < past.samples:
        known[name] = past


def evaluation(
    graph: Graph,
    policy: Policy,
    counts: tuple[float, int],
    split: SplitName,
    figures: Figures,
) -> Evaluation:
    """Put together what is known of one policy and its program; `counts` are (correct, all)."""
    return Evaluation(
        accuracy=ratio(counts),
        samples=counts[1],
        split=split,
        macs=sum(policy_macs(graph, policy).values()),
        bops=sum(policy_bops(graph, policy).values()),
        **figures.to_evaluation(),
    )


def seed_of(policy: Policy, seed: int) -> int:
    """Return a seed for one policy, the same in every process and after every resume."""
    return (int(policy.digest()[:15], 16) ^ seed) % (1 << SEED_BITS)
