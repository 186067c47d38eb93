"""Everything that a board runs as one archive, made on the host: no compiler, no internet there."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from importlib.resources import as_file, files
from pathlib import Path

from host.canonical import digest
from host.errors import BuildError, CallerError

# What the base install needs, by distribution; the agent's runtime library comes out of TVM's.
PACKAGES = (
    "grpcio",
    "grpcio-health-checking",
    "grpcio-reflection",
    "protobuf",
    "psutil",
    "numpy",
    "apache-tvm-ffi",
    "ml-dtypes",
    "typing-extensions",
)
# Of ours: copied as they are, never imported here.
OWN = ("device_agent", "protos")
RUNTIME, RUNTIME_IN_WHEEL = "libtvm_runtime.so", "tvm/lib/libtvm_runtime.so"
MACHINES = ("aarch64", "x86_64")
# What Debian 12 can load, as wheels are tagged.
TAGS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_17", "manylinux2014")
# Parts of packages that a board never imports.
_LEFT_OUT = re.compile(r"(^|/)(tests|__pycache__|include|testing/tests)(/|$)|\.(pyi|c|h|pyx)$")
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Bundle:
    """A gzipped tar with `site/`, `device_agent/`, `protos/` and the runtime library."""

    digest: str
    data: bytes


def bundle(arch: str, python: tuple[int, int], cache: Path) -> Bundle:
    """Return the bundle for a machine and its Python, made once and kept in `cache`.

    Raises CallerError for a machine without wheels, BuildError where pip finds none.
    """
    if arch not in MACHINES:
        raise CallerError(f"there are no wheels for {arch}: install a 64-bit system on the board")
    pins = {name: metadata.version(name) for name in (*PACKAGES, "apache-tvm", "hil-lab")}
    own = sorted(_own_files())
    key = digest([FORMAT, arch, list(python), pins, [[n, _sha(p)] for n, p in own]])
    path = cache / "bundles" / f"{key[:24]}.tar.gz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(_make(arch, python, pins, own))
        part.replace(path)
    data = path.read_bytes()
    return Bundle(hashlib.sha256(data).hexdigest(), data)


def _own_files() -> Iterable[tuple[str, Path]]:
    for package in OWN:
        with as_file(files(package)) as root:
            for path in root.rglob("*.py"):
                yield f"{package}/{path.relative_to(root).as_posix()}", path


def _make(
    arch: str, python: tuple[int, int], pins: dict[str, str], own: list[tuple[str, Path]]
) -> bytes:
    with tempfile.TemporaryDirectory(prefix="hil-bundle-") as scratch:
        root = Path(scratch)
        wheels = [
            *(part for tag in TAGS for part in ("--platform", f"{tag}_{arch}")),
            "--python-version", f"{python[0]}.{python[1]}",
            "--only-binary=:all:", "--no-deps", "--quiet", "--disable-pip-version-check",
        ]  # fmt: skip
        wanted = [f"{name}=={pins[name]}" for name in PACKAGES]
        _pip("install", *wheels, "--no-compile", "--target", str(root / "site"), *wanted)
        _pip("download", *wheels, "-d", str(root), f"apache-tvm=={pins['apache-tvm']}")
        wheel = next(root.glob("apache_tvm-*.whl"))
        runtime = zipfile.ZipFile(wheel).read(RUNTIME_IN_WHEEL)
        site = [
            (f"site/{p.relative_to(root / 'site').as_posix()}", p)
            for p in sorted((root / "site").rglob("*"))
            if p.is_file()
        ]
        kept = [(name, p.read_bytes()) for name, p in site if not _LEFT_OUT.search(name)]
        ours = [(name, p.read_bytes()) for name, p in own]
        return _archive([*kept, *ours, _named(pins["hil-lab"]), (RUNTIME, runtime)])


def _named(version: str) -> tuple[str, bytes]:
    """Return what tells the agent its own version: there, it is not installed but copied."""
    text = f"Metadata-Version: 2.1\nName: hil-lab\nVersion: {version}\n"
    return f"site/hil_lab-{version}.dist-info/METADATA", text.encode()


def _archive(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a tar that depends on its files alone, not on when and by whom it was made."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755 if name.endswith(".so") else 0o644
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise BuildError(f"pip could not fetch the board's packages: {said}")


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
