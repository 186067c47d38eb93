"""The part on the board: what it changes it can undo, whenever it was interrupted."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_setup.board.side import HOME, Board
from firmware_setup.remote import Here, ProvisionError, order, upload

ROOT = "root:root"
NAMES = st.sampled_from(["/etc/a", "/etc/b", "/etc/new/c", "/opt/x/y/z", "/boot/config.txt"])
CONTENTS = st.binary(max_size=40)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def tree(root: Path) -> dict[str, tuple[bytes | None, int]]:
    """Everything below a folder: content (None of a folder) and mode."""
    return {
        str(path.relative_to(root)): (
            None if path.is_dir() else path.read_bytes(),
            path.stat().st_mode,
        )
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/a").write_bytes(b"as it was")
    (tmp_path / "etc/a").chmod(0o640)
    yield Board(str(tmp_path))


def write(board: Board, path: str, content: bytes, mode: str = "0600") -> None:
    board.put(path, encoded(content), mode, ROOT)


@settings(max_examples=60, deadline=None)
@given(before=st.dictionaries(NAMES, CONTENTS), puts=st.lists(st.tuples(NAMES, CONTENTS)))
def test_undo_restores_the_tree_whatever_was_written(
    before: dict[str, bytes],
    puts: list[tuple[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("root")
    for path, content in before.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (root / "var/lib").mkdir(parents=True)
    there = tree(root)
    board = Board(str(root))
    for path, content in puts:
        write(board, path, content)
        assert (root / path.lstrip("/")).read_bytes() == content
    board.undo()
    assert tree(root) == there


def test_the_first_content_is_what_comes_back(board: Board, tmp_path: Path) -> None:
    write(board, "/etc/a", b"one")
    write(board, "/etc/a", b"two")
    assert (tmp_path / "etc/a").stat().st_mode & 0o777 == 0o600
    assert board.undo() == ["restored /etc/a"]
    assert (tmp_path / "etc/a").read_bytes() == b"as it was"
    assert (tmp_path / "etc/a").stat().st_mode & 0o777 == 0o640


def test_a_journal_that_was_cut_short_is_no_obstacle(board: Board, tmp_path: Path) -> None:
    write(board, "/etc/a", b"one")
    with (tmp_path / HOME / "journal.jsonl").open("a") as file:
        file.write('{"kind": "file", "path": "/etc/b", "w')
    write(board, "/etc/c", b"three")
    assert set(board.undo()) == {"restored /etc/a", "removed /etc/c"}
    assert not (tmp_path / HOME).exists()


def test_undoing_twice_or_nothing_is_nothing(board: Board) -> None:
    assert board.undo() == []
    write(board, "/etc/b", b"x")
    board.undo()
    assert board.undo() == []


def test_links_point_where_they_are_told_and_go(board: Board, tmp_path: Path) -> None:
    board.link("/opt", "first")
    board.link("/opt", "second")
    assert board.state(["/opt"]) == {"/opt": {"link": "second"}}
    board.undo()
    assert not (tmp_path / "opt").is_symlink()


def test_state_tells_absent_files_from_others(board: Board, tmp_path: Path) -> None:
    state = board.state(["/etc/a", "/etc/none", "/etc"])
    assert state["/etc/none"] is None
    assert state["/etc/a"]["mode"] == "0640" and len(state["/etc/a"]["digest"]) == 64
    assert state["/etc"]["folder"]


class TestUploads:
    CONTENT = bytes(range(256)) * 40_000

    @pytest.fixture
    def here(self, tmp_path: Path) -> Here:
        return Here(tmp_path)

    def digest(self) -> str:
        return hashlib.sha256(self.CONTENT).hexdigest()

    def test_one_that_was_cut_off_goes_on(self, here: Here, tmp_path: Path) -> None:
        (tmp_path / "opt").mkdir()
        (tmp_path / "opt/part").write_bytes(self.CONTENT[: 1 << 20])
        sent: list[int] = []

        class Counting(Here):
            def run(self, command: str, stdin: bytes):  # type: ignore[no-untyped-def]
                sent.append(len(stdin))
                return super().run(command, stdin)

        upload(Counting(tmp_path), "/opt/part", self.CONTENT)
        assert (tmp_path / "opt/part").read_bytes() == self.CONTENT
        assert sum(sent) < 1.4 * (len(self.CONTENT) - (1 << 20)) + 2000

    def test_a_start_of_something_else_is_sent_anew(self, here: Here, tmp_path: Path) -> None:
        (tmp_path / "opt").mkdir()
        (tmp_path / "opt/part").write_bytes(b"something else")
        upload(here, "/opt/part", self.CONTENT)
        assert (tmp_path / "opt/part").read_bytes() == self.CONTENT

    def test_a_damaged_archive_is_refused_and_removed(self, here: Here, tmp_path: Path) -> None:
        upload(here, "/opt/part", b"no archive")
        unpack = {"archive": "/opt/part", "digest": self.digest(), "into": "/opt/into"}
        with pytest.raises(ProvisionError, match="damaged; provision again"):
            order(here, ("unpack", unpack))
        assert not (tmp_path / "opt/part").exists() and not (tmp_path / "opt/into").exists()

    def test_what_is_unpacked_is_compiled_for_those_who_may_not_write_there(
        self, here: Here, tmp_path: Path
    ) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            info = tarfile.TarInfo("site/module.py")
            info.size = len(source := b"def where(): return where.__code__.co_filename\n")
            tar.addfile(info, io.BytesIO(source))
        upload(here, "/opt/part", archive.getvalue())
        digest = hashlib.sha256(archive.getvalue()).hexdigest()
        order(here, ("unpack", {"archive": "/opt/part", "digest": digest, "into": "/opt/into"}))
        (compiled,) = (tmp_path / "opt/into/site/__pycache__").iterdir()
        assert str(tmp_path / "opt/into/site/module.py").encode() in compiled.read_bytes()


def test_a_refused_order_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match=r"here: false: exit status 1") as error:
        order(Here(tmp_path), ("run", {"command": ["false"]}))
    assert "\n" not in str(error.value)


def test_the_script_needs_nothing_of_ours() -> None:
    source = Path("firmware_setup/board/side.py")
    text = (Path(__file__).parent.parent.parent / source).read_text()
    assert "import host" not in text and "import firmware_setup" not in text
