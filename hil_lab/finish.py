"""From the chosen policies to reported numbers: final training, test accuracy, artifact, proof."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import nn

from hil_lab.experiment import Search
from hil_lab.inventory import LOCAL, open_board
from hil_lab.runs import FINALIST, NETWORK, POLICY, RESULT, Run
from hil_lab.stages import Stages
from hil_lab.tuning import tune
from hil_lab.workbench import Workbench, save_network
from host.artifact import Artifact
from host.boards.session import BoardSession
from host.compress.finetune import accuracy, ratio
from host.crew import persistently
from host.errors import ArtifactRejected
from host.evaluate import evaluation
from host.lower.build import Builder
from host.lower.targets import target_of
from host.policy import Policy, policy_weights, uncompressed, uniform_int8
from host.search.episode import Episode, best
from host.size import compression
from host.types import Evaluation
from host.verify import complaints, summary
from protos.values import VerifyReport

FP32, INT8 = "fp32", "uniform-int8"
RESULT_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Finalist:
    """A policy that gets a final training and a row in the result."""

    name: str
    policy: Policy
    target: float | None = None
    episode: int | None = None


def finalists(bench: Workbench, searches: dict[float, list[Episode]]) -> list[Finalist]:
    """Return the references, then the best policy of every target."""
    space = bench.space
    rows = [Finalist(FP32, uncompressed(space.graph)), Finalist(INT8, uniform_int8(space))]
    for target, episodes in searches.items():
        top = best(episodes)
        rows.append(Finalist(f"at-{target}", top.policy, target, top.number))
    return rows


def finish(search: Search, searches: dict[float, list[Episode]]) -> dict[str, Any]:
    """Finish every finalist that is not finished yet, and write the result."""
    bench = search.bench
    rows = []
    for finalist in finalists(bench, searches):
        folder = bench.run.path("final", finalist.name)
        kept = folder / FINALIST
        if not kept.is_file():
            record = _finish_one(search, finalist, folder)
            bench.run.write(str(kept.relative_to(bench.run.folder)), record)
        rows.append(json.loads(kept.read_text()))
    result = {
        "format": RESULT_FORMAT,
        "run": bench.run.name,
        "model": bench.recipe.model,
        "data": bench.recipe.data,
        "board": board_facts(search.boards.session),
        "boards": [board_facts(session) for session in search.boards.sessions],
        "fleet": bench.recipe.measure.fleet,
        "target": search.builder.target.name,
        "strategy": bench.recipe.search.strategy,
        "reference_ms": search.reference_ms,
        "measured_programs": search.meter.measured,
        "rows": [row | {"compression": compression(row, rows[0])} for row in rows],
    }
    bench.run.write(RESULT, result)
    bench.run.event("finished")
    return result


def board_facts(session: BoardSession) -> dict[str, Any]:
    """Return what a board is, as JSON."""
    return asdict(session.info) | {"fingerprint": dict(session.info.fingerprint)}


def _finish_one(search: Search, finalist: Finalist, folder: Path) -> dict[str, Any]:
    bench = search.bench
    network, validation = trained(search.stages, finalist, folder)
    counts = accuracy(network, "test", bench.data)
    artifact = search.builder.build(
        network, finalist.policy, folder / "artifact", sample=sample(bench)
    )
    meter = search.boards.meter_for(bench.recipe.measure.report)
    scored = evaluation(
        bench.subject.graph,
        finalist.policy,
        counts,
        "test",
        meter.of(artifact),
    )
    return {
        "name": finalist.name,
        "target": finalist.target,
        "episode": finalist.episode,
        "validation": validation,
        "policy": finalist.policy.to_dict(),
        "weights": round(sum(policy_weights(bench.subject.graph, finalist.policy).values())),
        "evaluation": scored.to_dict(),
        "verify": proofs(search, network, finalist.policy, artifact, folder),
    }


def trained(stages: Stages, finalist: Finalist, folder: Path) -> tuple[nn.Module, float]:
    """Return the finished network of a policy and its validation accuracy; kept in its folder."""
    bench = stages.bench
    network = stages.of(finalist.policy).compressed(finalist.policy)
    tuning = bench.recipe.finetune
    epochs = 0 if finalist.name == FP32 else tuning.final_epochs
    kept = folder / NETWORK
    if not kept.is_file():
        if epochs:
            tune(bench, network, finalist.policy, epochs, tuning.final_lr, finalist.name)
        save_network(network, kept)
        run_path = (folder / POLICY).relative_to(bench.run.folder)
        bench.run.write(str(run_path), finalist.policy.to_dict())
    network.load_state_dict(load_file(kept))
    return network.eval(), ratio(accuracy(network, "validation", bench.data))


def sample(bench: Workbench) -> np.ndarray:
    """Return the golden input: the first validation image."""
    images = bench.data.validation.images[:1]
    array: np.ndarray = bench.data.tensor(images).numpy()
    return array


def proofs(
    search: Search, network: nn.Module, policy: Policy, artifact: Artifact, folder: Path
) -> dict[str, Any]:
    """Verify a program on its board where that can run it, and its twin on this machine."""
    reporter, session = search.bench.reporter, search.boards.session
    name, records = session.info.name, {}
    try:
        report = persistently(lambda s: s.verify(artifact), session, BoardSession.revive)
        records[name] = proof(report)
        reporter.say(f"verify   {folder.name} on {name}: {summary(report)}")
    except ArtifactRejected as e:
        records[name] = {"executed": False, "reason": str(e)}
    twin = local_twin(search.bench, network, policy, folder / "artifact-local")
    report = verify_locally(twin, search.bench.run)
    records[LOCAL] = proof(report)
    arch = twin.manifest["arch"]
    reporter.say(f"verify   {folder.name}, {arch} build on {LOCAL}: {summary(report)}")
    return records


def local_twin(bench: Workbench, network: nn.Module, policy: Policy, out: Path) -> Artifact:
    """Build the same program for this machine."""

    builder = Builder(bench.subject.graph, target_of(platform.machine()), bench.recipe.threads)
    return builder.build(network, policy, out, sample=sample(bench))


def verify_locally(artifact: Artifact, run: Run) -> VerifyReport:
    """Verify an artifact of this machine's kind."""
    with open_board(LOCAL) as client, client.lease(run.name) as session:
        return session.verify(artifact)


def proof(report: VerifyReport) -> dict[str, Any]:
    """Return a verification as JSON."""
    return {"executed": True, "complaints": complaints(report), **asdict(report)}


def table(result: dict[str, Any]) -> list[list[str]]:
    """Return the final table as text cells, a row per finished program."""
    evaluations = [Evaluation.from_dict(row["evaluation"]) for row in result["rows"]]
    figures = [e.latency_ms for e in evaluations if e.latency_ms is not None]
    rows: list[list[str]] = []
    for row, e, figure in zip(result["rows"], evaluations, figures, strict=True):
        sizes = compression(row, result["rows"][0])
        smaller = f", {sizes['times_smaller']:.2f}x smaller" if rows else ""
        interval = f"[{figure.low:.3f}, {figure.high:.3f}]"
        rows.append(
            [
                row["name"],
                f"{e.accuracy:.2%}",
                f"{figure.value:.3f} ms {interval}",
                f"{figure.value / figures[0].value:.3f}x",
                f"{e.size_bytes / 1000:.1f} kB{smaller}",
                f"{sizes['papers_ratio']:.2f}x",
                f"{figure.source}, {e.verdict}",
            ]
        )
    return rows
