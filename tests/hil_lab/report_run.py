"""A fabricated run folder with its store: what a search leaves behind, without running one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hil_lab.recipe import MeasureTable, Recipe, SearchTable
from hil_lab.runs import RECIPE, RESULT, Run
from host.boards.protocol import REPORT
from host.boards.types import Block, Conditions, Energy, Measurement
from host.policy import LayerPolicy, Policy
from host.search.episode import Episode
from host.store import Store
from host.surrogate.scorecard import Expected, Foretold, Scorecard
from host.types import Evaluation, Figure
from protos.values import LayerCheck, VerifyReport

NAME = "2026-01-01-tiny-0001"
WIDTHS = {"stem": 16, "body.conv": 32, "fc": 10}
MACS = {"stem": 9216, "body.conv": 294912, "fc": 512}
REFERENCE_MS = 2.0
SETTINGS = (
    *(("prune", tenth / 10) for tenth in range(10)),
    *((kind, bits) for kind in ("act", "weight") for bits in range(1, 7)),
    ("int8", 8),
)


@dataclass(frozen=True)
class Fake:
    """What the run is; names may be hostile."""

    targets: tuple[float, ...] = (0.5,)
    episodes: int = 8
    done: int = 8
    finished: bool = True
    model: str = "tiny"
    board: str = "sim:rpi4"
    cost: str = "latency"
    others: tuple[str, ...] = ()
    fleet: str = "each"


def write_run(root: Path, fake: Fake | None = None) -> Run:
    """Write a run folder under `root/runs` and return it."""
    fake = fake or Fake()
    run = Run(root / "runs" / NAME)
    table = SearchTable(cost=fake.cost, target=fake.targets, episodes=fake.episodes, seed=7)
    names = (fake.board, *fake.others)
    measure = MeasureTable(fleet=fake.fleet)
    recipe = Recipe(fake.model, "digits", board=names, search=table, measure=measure)
    versions = {"python": "3.11.0", "hil-lab": "0.1.0", "torch": "2.13.0"}
    run.write(RECIPE, {"format": 1, "recipe": recipe.to_dict(), "versions": versions})
    run.tie("images", "1" * 64)
    run.tie("weights", "2" * 64)
    run.path("events.jsonl").write_text('{"at": "2026-01-01T10:00:00+00:00", "event": "trained"}\n')
    run.write("sensitivity.json", sensitivity())
    with closing(Store(run.folder.parent / "store.db")) as store:
        reference = store.add_measurement(measurement(fake.board, REFERENCE_MS, "0" * 64))
        figures = {"latency_ms": REFERENCE_MS, "size_bytes": 20000 * REFERENCE_MS}
        run.write("reference.json", {**figures, "measurement": reference})
        run.write("reference/manifest.json", manifest(1.0))
        for target in fake.targets:
            for number in range(fake.done):
                made = episode(number, target)
                board = names[number % len(names)]
                by = store.add_measurement(
                    measurement(board, made.latency_ms, f"{number}@{target}")
                )
                scored = replace(made.evaluation, measurements=(by,))
                store.add_episode(f"{NAME}@{target}", replace(made, evaluation=scored))
            if fake.done:
                run.write(f"at-{target}/surrogate.json", foretold(fake.done, target).to_dict())
        if fake.finished:
            finish(run, store, fake)
    return run


def finish(run: Run, store: Store, fake: Fake) -> None:
    """Write the finished programs and the result."""
    rows = [
        _row(run, store, fake, "fp32", _policy("fp32", 1.0), 0.99, 2.0, None),
        _row(run, store, fake, "uniform-int8", _policy("int8", 1.0), 0.985, 1.2, None),
        *(
            _row(run, store, fake, f"at-{t}", _policy("mix", 0.5), 0.98, 2.02 * t, t)
            for t in fake.targets
        ),
    ]
    board = {
        "name": fake.board,
        "kind": "sim:rpi4",
        "agent_version": "0.1.0",
        "service_version": 1,
        "runtime_abi": 1,
        "fingerprint": fingerprint(fake.board),
    }
    result = {"rows": rows, "board": board, "target": "cortex-a72", "reference_ms": REFERENCE_MS}
    run.write(RESULT, {"format": 1, "run": run.name, **result})


def _row(
    run: Run,
    store: Store,
    fake: Fake,
    name: str,
    policy: Policy,
    accuracy: float,
    latency_ms: float,
    target: float | None,
) -> dict[str, Any]:
    digest = policy.digest()
    boards = (fake.board, *(fake.others if fake.fleet != "each" else ()))
    measured = tuple(
        store.add_measurement(measurement(board, latency_ms * (1 + 0.01 * place), digest))
        for place, board in enumerate(boards)
    )
    scored = evaluation(accuracy, latency_ms, "test", digest, measured)
    quantized = [p.layer for p in policy.layers if p.mode != "fp32"]
    record = {
        "name": name,
        "target": target,
        "episode": None if target is None else 3,
        "validation": accuracy + 0.002,
        "policy": policy.to_dict(),
        "evaluation": scored.to_dict(),
        "verify": {
            fake.board: {"executed": False, "reason": "needs a machine of its kind"},
            "local": proof(quantized),
        },
    }
    run.write(f"final/{name}/finalist.json", record)
    run.write(f"final/{name}/artifact/manifest.json", manifest(0.5 if target else 1.0))
    return record


def proof(layers: Sequence[str]) -> dict[str, Any]:
    """Return a verification that passed, with one rounding tie in the first layer."""
    checks = tuple(
        LayerCheck(layer, 64, 1 if i == 0 else 0, 1 if i == 0 else 0, 1, 128)
        for i, layer in enumerate(layers)
    )
    report = VerifyReport(checks, 2e-6, 10.0, 1e-6)
    return {"executed": True, "complaints": [], **asdict(report)}


def manifest(share: float) -> dict[str, Any]:
    """Return as much of a manifest as the report reads."""
    kernels = [
        {"layer": n, "macs": int(m * share), "shape": {"out": [1, 8, 8, WIDTHS[n]]}}
        for n, m in MACS.items()
    ]
    return {"format": 1, "target": "cortex-a72", "kernels": kernels}


def _policy(mode: str, share: float) -> Policy:
    bits = {"fp32": (32, 32), "int8": (8, 8), "mix": (3, 4)}[mode]
    layers = [
        LayerPolicy(n, w if n == "fc" else int(w * share), mode, *bits)  # type: ignore[arg-type]
        for n, w in WIDTHS.items()
    ]
    return Policy(tuple(layers))


def episode(number: int, target: float) -> Episode:
    """Return a made-up episode."""
    accuracy, latency_ms = 0.5 + 0.06 * number, REFERENCE_MS * (target + 0.02 * (4 - number))
    policy = _policy(("int8", "mix")[number % 2], (number + 1) / 8)
    scored = evaluation(accuracy, latency_ms, "validation", policy.digest(), ())
    return Episode(
        number, policy, scored, accuracy - 3 * abs(latency_ms / REFERENCE_MS / target - 1)
    )


def foretold(episodes: int, target: float) -> Scorecard:
    """Return what a search foretold of all but its first two episodes: a point too much."""
    card = Scorecard()
    for number in range(2, episodes):
        truth = episode(number, target).evaluation
        assert truth.latency_ms is not None
        a, ms = truth.accuracy + 0.01, truth.latency_ms.value * 1.002
        cost = Expected(ms, 0.999 * ms, 1.001 * ms)
        foretold = Foretold(Expected(a, a - 0.02, a + 0.02), cost)
        card.add(foretold, truth.accuracy, truth.latency_ms.value)
    return card


def evaluation(
    accuracy: float, latency_ms: float, split: str, artifact: str, measurements: tuple[str, ...]
) -> Evaluation:
    """Return a made-up evaluation."""
    return Evaluation(
        accuracy=accuracy,
        samples=200,
        split=split,  # type: ignore[arg-type]
        macs=304640,
        bops=304640 * 12,
        size_bytes=int(20000 * latency_ms),
        latency_ms=Figure(latency_ms, "measured", latency_ms * 0.999, latency_ms * 1.001),
        energy_mj=Figure(3.1 * latency_ms, "measured"),
        artifact=artifact,
        measurements=measurements,
        verdict="trusted",
        seconds=2.5,
    )


def measurement(board: str, latency_ms: float, artifact: str) -> Measurement:
    """Return a measurement with two blocks of samples around a latency."""
    samples = tuple(int(1e6 * latency_ms * (1 + 0.0004 * (i % 9 - 4))) for i in range(40))
    state = Conditions(0, temperature_c=47.0, clock_mhz=1800.0, throttle_bits=0)
    block = Block(samples, warmup_runs=10, settled=True, start=state, end=state)
    energy = Energy(active_j=1.0, active_s=0.4, inferences=80, readings=12, meter="model")
    return Measurement(
        artifact=artifact,
        structure=artifact,
        board=board,
        fingerprint=fingerprint(board),
        protocol=REPORT,
        blocks=(block, block),
        verdict="trusted",
        energy=energy,
    )


def fingerprint(board: str) -> Mapping[str, str]:
    """Return what the numbers depend on."""
    return {"kind": board, "model": "3", "cpu": "Cortex-A72"}


def sensitivity() -> dict[str, Any]:
    """Return a table in which fc cannot be pruned."""
    entries = [
        {
            "layer": layer,
            "setting": {"kind": kind, "value": value},
            "kl": round(0.001 * (place + 1) * (number + 1), 6),
            "supported": (layer, kind) != ("fc", "prune"),
        }
        for place, layer in enumerate(WIDTHS)
        for number, (kind, value) in enumerate(SETTINGS)
    ]
    return json.loads(json.dumps({"format": 1, "images": 64, "entries": entries}))
