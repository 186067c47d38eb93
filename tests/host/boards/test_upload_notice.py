"""How long an upload to a board that is gone takes to say so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hil_lab.bench.faults.link import Link
from hil_lab.inventory import served
from host.boards.client import BoardClient
from host.errors import BoardUnreachable
from tests.contracts.support import fake_machine, plain_artifact

NOTICED_S = 10.0


@pytest.mark.slow
def test_a_board_that_falls_silent_in_an_upload_is_noticed(library: bytes, tmp_path: Path) -> None:
    artifact = plain_artifact(tmp_path / "artifact", library)
    with served(fake_machine()) as direct:
        link = Link(int(direct.address.rpartition(":")[2]))
        with BoardClient(f"127.0.0.1:{link.port}") as client, client.lease("me") as session:
            session._missing(list(artifact.blobs()))
            link.down()
            start_s = time.monotonic()
            with pytest.raises(BoardUnreachable, match="no answer to"):
                session.upload(artifact)
            assert time.monotonic() - start_s < NOTICED_S
            link.up()
        link.close()
