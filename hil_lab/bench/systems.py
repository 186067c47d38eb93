"""The published systems and ours, one table per network: what each finally hands over.

Of every search the best measured policy for a target is counted on test images once, untrained as
it was searched; latency, energy and bytes are those of its program on the simulated board. Finals
are kept beside the trials: `hil-lab bench systems --out docs/trials` prints them again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hil_lab.bench.methods import METHODS, SHARES, methods
from hil_lab.bench.report import Options, Report, Table
from hil_lab.bench.search import DEFAULT_FOLDER, SEEDS
from hil_lab.bench.trace import Trace
from hil_lab.bench.trials import Contest, Trial, trials
from host.compress.finetune import accuracy, ratio
from host.policy import Policy, uncompressed, uniform_int8
from host.search.episode import best
from host.types import Evaluation

NETWORKS = ("resnet20", "resnet56", "digits-vit")
SYSTEMS = ("amc", "haq", "galen-joint", "hirelc", "ours")
FP32, INT8 = "fp32", "uniform int8"


@dataclass(frozen=True)
class Final:
    """What one search hands over for a target, which is a share of fp32's latency.

    `measurements` are distinct programs, those before the search among them; `evaluations` are
    distinct policies, and `seconds` what counting them took. `origin` are the digests of weights
    and images; finals kept before it was noted have none.
    """

    network: str
    method: str
    target: float
    seed: int
    images: int
    test: float
    validation: float
    latency_ms: float
    reference_ms: float
    energy_mj: float
    size_bytes: int
    measurements: int
    evaluations: int
    seconds: float
    policy: dict[str, Any]
    origin: dict[str, str] = field(default_factory=dict)


def report(options: Options) -> Report:
    """Run what is missing of the searches, and show what they hand over."""
    chosen = methods(options.methods or SYSTEMS)
    folder = Path(options.folder or DEFAULT_FOLDER)
    found: list[Final] = []
    for network in options.networks or NETWORKS:
        contest = Contest(network, folder, options.overrides, options.reporter)
        found += references(contest)
        for trial in trials([network], chosen, options.seeds or SEEDS):
            for share in SHARES if trial.method.front else (trial.target,):
                found.append(final(contest, trial, share))
    names = list(dict.fromkeys(f.network for f in found))
    return Report(
        samples={"finals": [asdict(one) for one in found]},
        tables=[_table(name, [f for f in found if f.network == name]) for name in names],
        shows=[],
    )


def final(contest: Contest, trial: Trial, share: float) -> Final:
    """Return what a trial hands over for a target: as it is kept, else of the trial."""
    path = contest.folder / f"{Path(trial.file).with_suffix('')}-at-{share:g}.final"
    if path.is_file():
        return Final(**json.loads(path.read_text()))
    episodes = contest.run(trial)
    trace = Trace.of(episodes, contest.reference_ms, contest.setup_measurements(trial.method))
    aimed = share * trace.reference_ms
    rewarded = [replace(e, reward=contest.reward(e.evaluation, aimed)) for e in episodes]
    top = best(rewarded)
    policies = {e.policy.digest(): e.evaluation for e in episodes}
    programs = {step.program for step in trace.steps if step.measured}
    made = replace(
        _final(contest, top.policy, top.evaluation, trial.method.name),
        target=share,
        seed=trial.seed,
        measurements=trace.before + len(programs),
        evaluations=len(policies),
        seconds=sum(e.seconds for e in policies.values()),
    )
    path.write_text(json.dumps(asdict(made)))
    return made


def references(contest: Contest) -> Iterator[Final]:
    """Yield what everybody has already: the whole network, as it is and in int8."""
    for name in (FP32, INT8):
        path = contest.folder / contest.network / f"{name.replace(' ', '-')}.final"
        if not path.is_file():
            space = contest.bench.space
            policy = uncompressed(space.graph) if name == FP32 else uniform_int8(space)
            made = _final(contest, policy, contest.evaluator(policy), name)
            path.write_text(json.dumps(asdict(made)))
        yield Final(**json.loads(path.read_text()))


def _final(contest: Contest, policy: Policy, scored: Evaluation, method: str) -> Final:
    """Return a policy counted on test images, as what a search of one evaluation hands over."""
    bench = contest.bench
    counts = accuracy(bench.subject.compressed(policy), "test", bench.data)
    assert scored.latency_ms is not None and scored.energy_mj is not None
    return Final(
        network=contest.network,
        method=method,
        target=1.0,
        seed=0,
        images=counts[1],
        test=ratio(counts),
        validation=scored.accuracy,
        latency_ms=scored.latency_ms.value,
        reference_ms=contest.reference_ms,
        energy_mj=scored.energy_mj.value,
        size_bytes=scored.size_bytes,
        measurements=1,
        evaluations=1,
        seconds=scored.seconds,
        policy=policy.to_dict(),
        origin=contest.origin,
    )


def _table(network: str, found: Sequence[Final]) -> Table:
    columns = [
        network,
        "target",
        "seeds",
        "test, by seed",
        "of fp32's latency",
        "ms",
        "mJ",
        "kB",
        "measurements",
        "evaluations",
        "minutes",
    ]
    keys = list(dict.fromkeys((f.target, f.method) for f in found))
    order = [FP32, INT8, *METHODS]
    keys.sort(key=lambda key: (-key[0], order.index(key[1])))
    return Table(columns, [_row([f for f in found if (f.target, f.method) == key]) for key in keys])


def _row(found: Sequence[Final]) -> list[str]:
    first = found[0]

    def mean(name: str, digits: int, unit: float = 1.0) -> str:
        return f"{statistics.mean(getattr(f, name) for f in found) / unit:.{digits}f}"

    reference = first.method in (FP32, INT8)
    share = statistics.mean(f.latency_ms / f.reference_ms for f in found)
    return [
        first.method,
        "" if reference else f"{first.target:g}",
        "" if reference else f"{len(found)}",
        ", ".join(f"{f.test:.2%}" for f in found),
        f"{share:.3f}",
        mean("latency_ms", 3),
        mean("energy_mj", 2),
        mean("size_bytes", 1, 1000),
        mean("measurements", 0),
        mean("evaluations", 0),
        mean("seconds", 1, 60),
    ]
