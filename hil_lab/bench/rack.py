"""A rack of simulated boards, each in its own process at the pace of real time: are all kept busy?

`hil-lab bench rack`: every board is served by the real agent, and every measurement is one second
of its time. A host that did nothing in between would reach as many a second as there are boards.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

from hil_lab.bench.networks import BenchNetwork, chosen
from hil_lab.bench.processes import cpu_s, peak_rss_bytes
from hil_lab.bench.report import Options, Report, Show, Table
from hil_lab.simboard.process import SimProcess, sim_process
from host.artifact import Artifact
from host.boards.client import BoardClient
from host.boards.protocol import QUICK
from host.boards.session import BoardSession
from host.boards.types import Progress
from host.crew import Crew
from host.graph import trace_unpruned
from host.lower.build import Builder
from host.lower.targets import TARGETS
from host.policy import uncompressed

BOARDS, DEFAULT_ROUNDS, DEFAULT_NETWORK = 16, 20, "resnet20"
MEASUREMENT_S = 1.0
# One second of the board's time, whatever its noise; a warm-up would be more of the same.
PLAN = replace(
    QUICK,
    mode="rack",
    warmup_s=0.0,
    warmup_cap_s=0.0,
    seconds=MEASUREMENT_S,
    cap_s=MEASUREMENT_S,
    half_width_ratio=1.0,
)
THROUGHPUT_BAR, RSS_BAR_MB, CPU_BAR_PERCENT = 0.9, 150.0, 1.0
COLUMNS = ("board", "measured", "seconds each", "agent CPU in windows", "agent memory")


@dataclass
class Member:
    """A board of the rack, and what its agent took in every window."""

    process: SimProcess
    session: BoardSession
    window_cpu_percent: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    _begun: tuple[float, float] = (0.0, 0.0)

    def measure(self, artifact: Artifact) -> None:
        """Measure once and note how long that took."""
        begun = time.monotonic()
        self.session.measure(artifact, PLAN, synthetic_weights=True, on_progress=self._progressed)
        self.seconds.append(time.monotonic() - begun)

    def _progressed(self, progress: Progress) -> None:
        now = time.monotonic(), cpu_s(self.process.process.pid)
        if progress.phase == "sample":
            self._begun = now
        elif progress.phase == "sampled":
            wall, cpu = (after - before for after, before in zip(now, self._begun, strict=True))
            self.window_cpu_percent.append(100 * cpu / wall)

    @property
    def rss_mb(self) -> float:
        """The most memory of the agent, in units of 10^6 bytes."""
        return peak_rss_bytes(self.process.process.pid) / 1e6

    def to_dict(self) -> dict[str, object]:
        """Return the raw samples."""
        return {
            "board": self.process.name,
            "seconds": self.seconds,
            "window_cpu_percent": self.window_cpu_percent,
            "rss_mb": self.rss_mb,
        }

    def row(self) -> list[str]:
        """Return the medians as a line of a table."""
        return [
            self.process.name,
            f"{len(self.seconds)}",
            f"{median(self.seconds):.3f}",
            f"{median(self.window_cpu_percent):.2f} %",
            f"{self.rss_mb:.0f} MB",
        ]


def report(options: Options) -> Report:
    """Let a rack measure one program over and over."""
    (network,) = chosen(options.networks or [DEFAULT_NETWORK])
    rounds = options.rounds or DEFAULT_ROUNDS
    with tempfile.TemporaryDirectory(prefix="hil-rack-") as folder, ExitStack() as stack:
        artifact = _artifact(network, Path(folder) / "artifact")
        members = _members(Path(folder), stack)
        wall_s = _measured(members, artifact, rounds, options)
        return _report(members, wall_s, {"network": network.name, "rounds": rounds})


def _report(members: Sequence[Member], wall_s: float, what: dict[str, object]) -> Report:
    """Return what was seen, while the agents still run."""
    count = sum(len(member.seconds) for member in members)
    rate = count / wall_s / (len(members) / MEASUREMENT_S)
    samples = {
        **what,
        "plan": asdict(PLAN),
        "wall_s": wall_s,
        "load": list(os.getloadavg()),
        "boards": [member.to_dict() for member in members],
    }
    rows = [member.row() for member in members]
    return Report(samples, [Table(COLUMNS, rows)], _shows(members, rate))


def _shows(members: Sequence[Member], rate: float) -> list[Show]:
    shares = [median(member.window_cpu_percent) for member in members]
    worst = max(share for member in members for share in member.window_cpu_percent)
    memory = max(member.rss_mb for member in members)
    many = f"{len(members)} boards"
    return [
        Show(f"{many}: measurements per second, of the ideal", rate, "", THROUGHPUT_BAR),
        Show(f"{many}: largest agent memory", memory, "MB", RSS_BAR_MB, "at most"),
        Show(
            f"{many}: agent CPU in a window, of one core, median of the worst agent",
            max(shares),
            "%",
            CPU_BAR_PERCENT,
            "at most",
        ),
        Show(f"{many}: agent CPU in the worst single window", worst, "%"),
    ]


def _artifact(network: BenchNetwork, folder: Path) -> Artifact:
    """Build the uncompressed program for the simulated boards."""
    made = network.make()
    graph = trace_unpruned(made, network.name, network.input_shape, network.classes)
    builder = Builder(graph, TARGETS["cortex-a72"](), 1, source=made)
    return builder.build(made, uncompressed(graph), folder)


def _members(folder: Path, stack: ExitStack) -> list[Member]:
    """Start and lease the boards; the processes come up side by side."""
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(_started, folder, number) for number in range(1, BOARDS + 1)]
        started = []
        for job in jobs:
            started.append(stack.enter_context(_closing(job.result())))
    members = []
    for process in started:
        client = stack.enter_context(BoardClient(process.address))
        members.append(Member(process, stack.enter_context(client.lease("bench rack"))))
    return members


def _started(folder: Path, number: int) -> tuple[ExitStack, SimProcess]:
    own = ExitStack()
    board, name = f"sim:rpi4-{number}?pace=1", f"sim-{number:02d}"
    return own, own.enter_context(sim_process(board, name, folder / name))


@contextmanager
def _closing(started: tuple[ExitStack, SimProcess]) -> Iterator[SimProcess]:
    own, process = started
    with own:
        yield process


def _measured(
    members: Sequence[Member], artifact: Artifact, rounds: int, options: Options
) -> float:
    """Measure so many times on every board; return the seconds that all of it took."""
    crew = Crew(members)
    try:
        # The first one sends the program.
        for job in [crew.submit(lambda m: m.measure(artifact), at) for at in range(len(members))]:
            job.result()
        for member in members:
            member.seconds.clear()
            member.window_cpu_percent.clear()
        begun, count = time.monotonic(), rounds * len(members)
        jobs = [crew.submit(lambda m: m.measure(artifact), place) for place in range(count)]
        with options.reporter.progress("measure", f"{len(members)} boards", count) as advance:
            for done, job in enumerate(jobs, 1):
                job.result()
                advance(done, "")
        return time.monotonic() - begun
    finally:
        crew.close()
