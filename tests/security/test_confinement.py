"""Confinement where the machine grants less: without root, without namespaces, and required."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.errors import Crashed, Unsupported
from device_agent.program import find_runtime
from device_agent.seccomp import REFUSED as CALLS
from device_agent.seccomp import program
from device_agent.supervise import ProcessRunner
from device_agent.usage import resident_bytes
from device_agent.values import Job, Limits
from host.artifact import Artifact
from host.boards.protocol import QUICK
from tests.contracts.support import plain_artifact
from tests.security.hostile import CC, DEEDS, REFUSED, hostile_artifact

ROOT = Path(__file__).parent.parent.parent
STRANGER = 54321
# What the second layer refuses by itself.
WITHOUT_NAMESPACES = (
    "connect", "raw-socket-call", "allocate-10-gb", "hidden-memory", "run-a-shell",
    "kill-everybody", "kill-the-parent", "new-namespaces", "mount", "trace", "leave-the-group",
    "many-files",
)  # fmt: skip
compiles = pytest.mark.skipif(CC is None, reason="no C compiler")


def job_of(artifact: Artifact, memory_bytes: int = 1 << 30) -> Job:
    return Job(artifact.manifest, artifact.root / "blobs", False, Limits(10.0, memory_bytes))


@pytest.mark.tvm
class TestInFull:
    def test_nothing_is_noted_where_everything_is_granted(self, plain: Artifact) -> None:
        block = ProcessRunner(counters=(), require_sandbox=True).block(
            job_of(plain), QUICK, lambda _: None
        )
        assert block.notes == ()

    @compiles
    def test_a_run_is_shown_its_own_blobs_alone(self, tmp_path: Path) -> None:
        other = tmp_path / "read-secret" / "blobs" / ("a" * 64)
        hostile = hostile_artifact(tmp_path, "read-secret", str(other))
        other.write_text("somebody else's weights")
        with pytest.raises(Crashed, match=f"exit status {REFUSED}"):
            ProcessRunner().verify(job_of(hostile))


@pytest.mark.tvm
class TestWithoutNamespaces:
    @compiles
    @pytest.mark.parametrize("deed", WITHOUT_NAMESPACES)
    def test_the_filter_of_calls_still_refuses(self, deed: str, tmp_path: Path) -> None:
        hostile = hostile_artifact(tmp_path, deed, "", 9)
        with pytest.raises(Crashed, match=f"exit status {REFUSED}"):
            ProcessRunner(namespaces=False).verify(job_of(hostile))

    def test_what_is_missing_stands_on_the_result(self, plain: Artifact) -> None:
        runner = ProcessRunner(counters=(), namespaces=False)
        block = runner.block(job_of(plain), QUICK, lambda _: None)
        assert "sandbox: namespaces: not asked for" in block.notes
        assert block.notes == runner.profile(job_of(plain), 2).notes

    def test_an_agent_that_requires_all_of_it_refuses(self, plain: Artifact) -> None:
        runner = ProcessRunner(namespaces=False, require_sandbox=True)
        with pytest.raises(Unsupported, match=r"runs confined programs only.*namespaces"):
            runner.verify(job_of(plain))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may read; pytest's are private."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


RUN_AS = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from device_agent import linux
user, python = {user}, Path(sys.base_prefix)
# Python may lie in a home folder, which the stranger may not enter: show it there to it alone.
for private in [p for p in reversed(python.parents) if not p.stat().st_mode & 1][:1]:
    linux.unshare(linux.NEW_MOUNTS)
    linux.keep_mounts()
    source = os.open(python, os.O_PATH)
    linux.mount_memory(str(private), "mode=755", 0)
    python.mkdir(parents=True)
    linux.bind(f"/proc/self/fd/{{source}}", str(python))
os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
from device_agent.errors import AgentError
from device_agent.supervise import ProcessRunner
from device_agent.values import Job, Limits
manifest = json.loads(Path(sys.argv[1], "manifest.json").read_text())
job = Job(manifest, Path(sys.argv[1], "blobs"), False, Limits(10.0, 1 << 30))
try:
    ProcessRunner(counters=(), require_sandbox=True).verify(job)
    print("verified")
except AgentError as e:
    print(e)
"""


def said_as_stranger(artifact: Artifact) -> str:
    script = RUN_AS.format(root=str(ROOT), user=STRANGER)
    command = [sys.executable, "-c", script, artifact.root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    return done.stdout.strip() or done.stderr


@pytest.mark.tvm
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
class TestWithoutRoot:
    def test_an_agent_without_root_confines_in_full(self, tiny: Path, open_folder: Path) -> None:
        artifact = plain_artifact(open_folder / "plain", (tiny / "plain.so").read_bytes())
        assert said_as_stranger(artifact) == "verified"

    @compiles
    @pytest.mark.parametrize("deed", DEEDS)
    def test_a_program_is_refused_by_an_agent_without_root(
        self, deed: str, open_folder: Path
    ) -> None:
        secret = open_folder / "secret"
        if deed == "read-secret":
            secret.write_text("the key of the daemon")
        hostile = hostile_artifact(open_folder, deed, str(secret), 9)
        assert f"exit status {REFUSED}" in said_as_stranger(hostile)


class TestFilter:
    @pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
    def test_a_filter_fits_the_kernel(self, machine: str) -> None:
        lines = len(program(machine, 7)) / 8
        assert lines == int(lines) and 2 * len(CALLS) < lines < 4096

    @pytest.mark.skipif(platform.machine() != "x86_64", reason="reads this machine's table")
    def test_numbers_are_those_of_the_kernel(self) -> None:
        header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
        generic = Path("/usr/include/asm-generic/unistd.h")
        if not header.exists():
            pytest.skip("no kernel headers")
        for name, (own, other) in CALLS.items():
            assert f"#define __NR_{name} {own}\n" in header.read_text(), name
            assert f"#define __NR_{name} {other}\n" in generic.read_text(), name


class TestUsage:
    def test_memory_counts_all_that_a_process_started(self, tmp_path: Path) -> None:
        family = {1: "2 3", 2: "4", 3: "", 4: ""}
        for process, children in family.items():
            thread = tmp_path / str(process) / "task" / str(process)
            thread.mkdir(parents=True)
            (thread / "children").write_text(children)
            (tmp_path / str(process) / "statm").write_text("9 1 0 0 0 0 0")
        page = os.sysconf("SC_PAGE_SIZE")
        assert resident_bytes(1, proc=tmp_path) == 4 * page
        assert resident_bytes(1, wrappers=2, proc=tmp_path) == page
        assert resident_bytes(9, proc=tmp_path) == 0

    def test_where_the_kernel_lists_no_children_parents_are_asked(self, tmp_path: Path) -> None:
        for process, parent in {1: 0, 2: 1, 3: 1, 4: 2, 5: 0}.items():
            folder = tmp_path / str(process)
            (folder / "task" / str(process)).mkdir(parents=True)
            (folder / "stat").write_text(f"{process} (a) 7 (b) S {parent} 0 0")
            (folder / "statm").write_text("9 1 0 0 0 0 0")
        page = os.sysconf("SC_PAGE_SIZE")
        assert resident_bytes(1, proc=tmp_path) == 4 * page
        assert resident_bytes(1, wrappers=2, proc=tmp_path) == page


class TestEnvironment:
    @pytest.mark.tvm
    def test_packages_that_lie_beside_the_agent_are_found(self, plain: Artifact) -> None:
        """As on a provisioned board: Python has none of its own, PYTHONPATH names them."""
        python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        if sys.base_prefix == sys.prefix or not python.exists():
            pytest.skip("not in a virtual environment")
        code = (
            "import json, sys; from pathlib import Path\n"
            "from device_agent.supervise import ProcessRunner\n"
            "from device_agent.values import Job\n"
            "root = Path(sys.argv[1])\n"
            "job = Job(json.loads((root / 'manifest.json').read_text()), root / 'blobs')\n"
            "print(ProcessRunner(counters=(), require_sandbox=True).verify(job).output_range)\n"
        )
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{sysconfig.get_path('purelib')}:{ROOT}",
            "HIL_TVM_RUNTIME": str(find_runtime()),
        }
        command = [python, "-S", "-c", code, plain.root]
        done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)
        assert float(done.stdout or 0) > 0, done.stderr

    @pytest.mark.tvm
    def test_a_worker_sees_no_secret_of_the_daemons_environment(
        self, library: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLOUD_SECRET_KEY", "hush")
        script = "import os, sys; sys.exit(' '.join(os.environ))"
        job = job_of(plain_artifact(tmp_path / "a", library))
        with pytest.raises(Crashed) as caught:
            ProcessRunner((sys.executable, "-c", script)).verify(job)
        assert "PATH" in str(caught.value) and "SECRET" not in str(caught.value)
