"""Compression for energy, one shot: what the composite agent saves, against its own parts.

Losses and savings are against the dense network in int8 on the same modelled accelerator and,
beside it, in 16 bits; nothing is trained. Searches see the accuracy expected of the margins of some
validation images (`search.marking`), the policies of the highest rewards that of all of them, and
the best of these is counted on test images once: the highest of many counts is luck. Outcomes are
kept in a folder: those behind docs/results.md are in docs/energies,
`hil-lab bench energy --out docs/energies`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hil_lab.bench.methods import ENERGY_METHODS, Method, methods
from hil_lab.bench.report import Options, Report, Show, Table
from hil_lab.bench.search import SEEDS
from hil_lab.bench.trace import present
from hil_lab.bench.trials import Contest, Trial
from host.compress.finetune import accuracy, ratio
from host.data import SplitName
from host.marking import EXPECTED
from host.policy import Policy, uncompressed, uniform_int8
from host.search.composite import Composite
from host.search.episode import Episode

NETWORKS = ("resnet20", "resnet56", "vgg19-cifar", "mobilenetv2-cifar", "digits-vit")
COMPOSITE = "composite"
# Policies of a search that are marked on all validation images.
RECOUNTED = 10
DEFAULT_FOLDER = "runs/bench-energy"
SAVED_BAR, LOST_BAR = 0.39, 0.017
# What the method itself aims at; latency is not asked for, so any share serves the trial.
ANY_TARGET = 1.0


@dataclass(frozen=True, slots=True)
class Program:
    """One policy as it was counted: shares of images, and millijoules on the accelerator."""

    validation: float
    test: float
    energy_mj: float


@dataclass(frozen=True)
class Outcome:
    """What one search came to; `dense` are the whole networks in 8 and 16 bits.

    `origin` are the digests of weights and images; outcomes kept before it was noted have none.
    """

    network: str
    method: str
    seed: int
    episodes: int
    images: int
    dense_16: Program
    dense_8: Program
    chosen: Program
    policy: Mapping[str, Any]
    versions: Mapping[str, str]
    origin: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Outcome:
        """Read an outcome as it is kept."""
        kept = json.loads(path.read_text())
        programs = {name: Program(**kept[name]) for name in ("dense_16", "dense_8", "chosen")}
        return cls(**kept | programs)

    def lost(self, dense: Program) -> float:
        """Return the lost share of test images."""
        return dense.test - self.chosen.test

    def saved(self, dense: Program) -> float:
        """Return the saved share of energy."""
        return 1 - self.chosen.energy_mj / dense.energy_mj


def report(options: Options) -> Report:
    """Run what is missing of the searches, and compare what they came to."""
    chosen = methods(options.methods, ENERGY_METHODS)
    folder = Path(options.folder or DEFAULT_FOLDER)
    found = list(_outcomes(folder, chosen, options))
    by_method = {m.name: [o for o in found if o.method == m.name] for m in chosen}
    return Report(
        samples={"outcomes": [asdict(outcome) for outcome in found]},
        tables=[_table(found), _means(by_method)],
        shows=list(_shows(by_method.get(COMPOSITE, []))),
        missing=list(_missing(by_method)),
    )


def _outcomes(folder: Path, chosen: Sequence[Method], options: Options) -> Iterator[Outcome]:
    for network in options.networks or NETWORKS:
        contest = Contest(network, folder, options.overrides, options.reporter, EXPECTED)
        for method in chosen:
            for seed in options.seeds or SEEDS:
                yield outcome(contest, Trial(network, method, ANY_TARGET, seed))


def outcome(contest: Contest, trial: Trial) -> Outcome:
    """Return what a trial came to: as it is kept, else of the trial, which is run."""
    path = (contest.folder / trial.file).with_suffix(".outcome")
    if path.is_file():
        return Outcome.read(path)
    episodes, bench = contest.run(trial), contest.bench
    chosen = _best(contest, trial, episodes)
    made = Outcome(
        trial.network,
        trial.method.name,
        trial.seed,
        len(episodes),
        len(bench.data.test),
        _program(contest, uncompressed(bench.subject.graph)),
        _program(contest, uniform_int8(bench.space)),
        _program(contest, chosen),
        chosen.to_dict(),
        present(),
        contest.origin,
    )
    path.write_text(json.dumps(asdict(made)))
    return made


def _best(contest: Contest, trial: Trial, episodes: Sequence[Episode]) -> Policy:
    """Return the policy of the highest reward on all validation images, of those that led."""
    agent, energy = Composite(contest.problem(trial)), contest.bench.energy
    # Each is seen once, so that nothing need be remembered.
    evaluate = replace(contest.evaluator, validation_images=None, known={}, memory_bytes=0)
    dense, *others = sorted(episodes, key=lambda e: (e.number > 0, -e.reward))
    policies = {e.policy.digest(): e.policy for e in others}
    before = evaluate(dense.policy).accuracy, energy(dense.policy)

    def reward(policy: Policy) -> float:
        lost = before[0] - evaluate(policy).accuracy
        return agent.reward(lost, 1 - energy(policy) / before[1])

    return max(list(policies.values())[:RECOUNTED], key=reward)


def _program(contest: Contest, policy: Policy) -> Program:
    """Return a policy counted on all images."""
    return Program(
        _counted(contest, policy, "validation"),
        _counted(contest, policy, "test"),
        contest.bench.energy(policy),
    )


def _counted(contest: Contest, policy: Policy, split: SplitName) -> float:
    """Return a policy's accuracy on all images of a split; counted once for all trials."""
    path = contest.folder / contest.network / f"{policy.digest()[:12]}.{split}"
    if not path.is_file():
        bench = contest.bench
        counts = accuracy(bench.subject.compressed(policy), split, bench.data)
        path.write_text(json.dumps(ratio(counts)))
    return float(json.loads(path.read_text()))


def _table(found: Sequence[Outcome]) -> Table:
    columns = [
        "network",
        "method",
        "seed",
        "test",
        "16 bit",
        "8 bit",
        "lost to 8 bit",
        "saved of 8 bit",
        "saved of 16 bit",
    ]
    rows = [
        [
            o.network,
            o.method,
            f"{o.seed}",
            *(f"{p.test:.2%}" for p in (o.chosen, o.dense_16, o.dense_8)),
            _points(o.lost(o.dense_8)),
            f"{o.saved(o.dense_8):.1%}",
            f"{o.saved(o.dense_16):.1%}",
        ]
        for o in found
    ]
    return Table(columns, rows)


def _means(by_method: Mapping[str, Sequence[Outcome]]) -> Table:
    columns = ["mean", "networks", "lost to 8 bit", "saved of 8 bit", "to 16 bit", "of 16 bit"]
    rows = []
    for method, found in by_method.items():
        figures = [
            [o.lost(o.dense_8), o.saved(o.dense_8), o.lost(o.dense_16), o.saved(o.dense_16)]
            for o in found
        ]
        lost, saved, lost_16, saved_16 = (
            _mean(found, [row[at] for row in figures]) for at in range(4)
        )
        networks = len({o.network for o in found})
        rows.append(
            [
                method,
                f"{networks}",
                _points(lost),
                f"{saved:.1%}",
                _points(lost_16),
                f"{saved_16:.1%}",
            ]
        )
    return Table(columns, rows)


def _shows(found: Sequence[Outcome]) -> Iterator[Show]:
    if found:
        saved = _mean(found, [o.saved(o.dense_8) for o in found])
        lost = _mean(found, [o.lost(o.dense_8) for o in found])
        where = f"composite over {len({o.network for o in found})} networks, against dense int8"
        yield Show(f"{where}: mean share of energy saved", saved, "", SAVED_BAR)
        yield Show(f"{where}: mean share of images lost", lost, "", LOST_BAR, "at most")


def _mean(found: Sequence[Outcome], values: Sequence[float]) -> float:
    """Return the mean over networks of means over seeds."""
    by_network: dict[str, list[float]] = {}
    for one, value in zip(found, values, strict=True):
        by_network.setdefault(one.network, []).append(value)
    return statistics.mean(map(statistics.mean, by_network.values()))


def _missing(by_method: Mapping[str, Sequence[Outcome]]) -> Iterator[str]:
    """Say where methods are compared over other networks than the composite agent."""
    every = {o.network for found in by_method.values() for o in found}
    for method, found in by_method.items():
        if lacking := every - {o.network for o in found}:
            yield f"{method}: {', '.join(sorted(lacking))}"


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"
