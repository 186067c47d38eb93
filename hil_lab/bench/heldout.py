"""Surrogates on policies that no search told them of: ranks, errors, and what intervals cover."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from filelock import FileLock

from hil_lab.bench.report import Show
from hil_lab.bench.trials import Contest, Trial, read_episodes, write_episode
from host.blocks import blocks
from host.encoding import Batch, Encoding, Floats, join
from host.errors import StoreError
from host.policy import Policy, uncompressed
from host.search.episode import Episode
from host.search.islands import Forecasts, Islands
from host.stats import spearman
from host.surrogate.accuracy import AccuracyModel
from host.surrogate.cost import LayerCosts

# Policies of a round share their jitter, and so their forecasts' errors: many rounds are needed.
POLICIES, PER_ROUND = 200, 4
TOLD = 60
TARGETS = (0.25, 1.1, 12)
JITTER = 0.7
# Keeps logarithms of no harm away from infinity, and policies near their target.
FLOOR, MISS_PENALTY = 0.02, 30.0
FILE = "held-out.jsonl"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Figures of both surrogates of one search, over held-out policies."""

    policies: int
    told: int
    accuracy_spearman: float
    accuracy_error: float
    covered: float
    latency_error: float
    latency_spearman: float


def shows(network: str, searches: Sequence[HeldOut]) -> Iterator[Show]:
    """Yield the figures with their bars, means over searches."""
    where = f"{network}: {searches[0].policies} held-out policies, {len(searches)} searches"

    def mean(name: str) -> float:
        return float(statistics.mean(getattr(figures, name) for figures in searches))

    yield Show(f"{where}: rank correlation of accuracy", mean("accuracy_spearman"), "", 0.9)
    yield Show(f"{where}: mean error of accuracy", mean("accuracy_error"), "")
    yield Show(f"{where}: share within 90 % intervals", mean("covered"), "", 0.85)
    yield Show(f"{where}: share within 90 % intervals", mean("covered"), "", 0.95, "at most")
    yield Show(f"{where}: median error of latency", mean("latency_error"), "", 0.03, "at most")
    yield Show(f"{where}: rank correlation of latency", mean("latency_spearman"), "", 0.99)


def held_out(contest: Contest, trial: Trial) -> HeldOut | None:
    """Return the figures of our trial as they are kept, else measured anew.

    None where only the trace of the trial is kept, which does not say what was evaluated.
    """
    path = contest.folder / contest.network / f"held-out-seed{trial.seed}.figures"
    if path.is_file():
        return HeldOut(**json.loads(path.read_text()))
    if not (contest.folder / trial.file).is_file():
        return None
    figures = _figures(contest, contest.run(trial))
    path.write_text(json.dumps(asdict(figures)))
    return figures


def _figures(contest: Contest, episodes: Sequence[Episode]) -> HeldOut:
    """Fit to the first evaluations of a search and forecast policies that are drawn apart."""
    encoding = Encoding(contest.bench.space, contest.bench.residuals)
    groups = [block.layers for block in blocks(encoding.graph)]
    held = _held(contest, encoding, groups)
    policies, truth = [e.policy for e in held], [e.evaluation for e in held]
    told = episodes[:TOLD]
    model = AccuracyModel(encoding, groups, encoding.graph.classes)
    model.fit(
        encoding.batch([e.policy for e in told]),
        np.asarray([e.evaluation.accuracy for e in told]),
    )
    forecast = model(encoding.batch(policies))
    accuracy = np.asarray([e.accuracy for e in truth])
    low, high = forecast.interval()
    ms = np.asarray([e.latency_ms.value for e in truth if e.latency_ms])
    predicted = np.asarray([sum(contest.kernel_times(policy).values()) for policy in policies])
    return HeldOut(
        policies=len(policies),
        told=len(told),
        accuracy_spearman=spearman(forecast.accuracy(), accuracy),
        accuracy_error=float(np.abs(forecast.accuracy() - accuracy).mean()),
        covered=float(((accuracy >= low) & (accuracy <= high)).mean()),
        latency_error=float(np.median(np.abs(predicted / ms - 1))),
        latency_spearman=spearman(predicted, ms),
    )


def _held(contest: Contest, encoding: Encoding, groups: Sequence[Sequence[str]]) -> list[Episode]:
    """Return held-out policies with what they came to; they are evaluated once for all searches."""
    path = contest.folder / contest.network / FILE
    with FileLock(path.with_suffix(".lock")):
        held = read_episodes(path)
        if len(held) == POLICIES:
            return held
        policies = _policies(contest, encoding, groups)
        if [e.policy for e in held] != policies[: len(held)]:
            raise StoreError(f"{path}: holds other policies; remove the file")
        with (
            path.open("w") as file,
            contest.reporter.progress("hold out", contest.network, POLICIES) as advance,
        ):
            for episode in held:
                write_episode(file, episode)
            for number in range(len(held), POLICIES):
                policy = policies[number]
                held.append(Episode(number, policy, contest.evaluator(policy), 0.0))
                write_episode(file, held[-1])
                advance(number + 1, "")
        return held


def _policies(
    contest: Contest, encoding: Encoding, groups: Sequence[Sequence[str]]
) -> list[Policy]:
    """Return policies that are sensible and unlike: evolved for jittered harms, for any target."""
    rng = np.random.default_rng(0)
    latency = LayerCosts(encoding, contest.kernel_times, rng)
    low, high, count = TARGETS
    targets = np.geomspace(low, high, count) * contest.reference_ms
    start = join([encoding.random(64, rng), encoding.batch([uncompressed(encoding.graph)])])

    def score(figures: Floats, target: int) -> Floats:
        missed = np.abs(figures[:, 1] / targets[target] - 1)
        return np.asarray(figures[:, 0] - MISS_PENALTY * missed)

    found: dict[str, Policy] = {}
    while len(found) < POLICIES:
        forecasts = _jittered(encoding, latency, rng)
        populations = Islands(encoding, groups).evolve(start, count, forecasts, score, rng)
        for at in rng.choice(count, PER_ROUND, replace=False):
            batch = populations[int(at)].batch
            policy = encoding.policy(batch, int(rng.integers(min(8, len(batch)))))
            found.setdefault(policy.digest(), policy)
    return list(found.values())[:POLICIES]


def _jittered(encoding: Encoding, latency: LayerCosts, rng: np.random.Generator) -> Forecasts:
    """Return forecasts by harms that are off by a random factor for every decision."""
    weight = np.exp(rng.normal())
    by_driver = weight * np.exp(JITTER * rng.normal(size=len(encoding.drivers)))
    by_layer = np.exp(JITTER * rng.normal(size=len(encoding.layers)))

    def forecasts(batch: Batch) -> Floats:
        pruning, formats = encoding.harm(batch)
        harm = pruning @ by_driver + formats @ by_layer
        return np.stack([-np.log(FLOOR + harm), latency(batch)], 1)

    return forecasts
