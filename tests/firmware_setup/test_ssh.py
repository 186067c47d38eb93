"""SSH as far as it goes without a server that speaks it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from firmware_setup.ssh import Login, SshRemote
from host.errors import BoardUnreachable


def test_what_hangs_up_is_one_sentence_and_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        login = Login("pi", "127.0.0.1", server.getsockname()[1])
        with pytest.raises(BoardUnreachable, match=r"^pi@\[127.0.0.1\]:\d+: .*banner"):
            SshRemote(login, tmp_path / "known").__enter__()
        thread.join()
    assert caplog.text == ""
