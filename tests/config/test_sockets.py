"""A Unix socket is reached in a folder of any depth."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from forwarder.config import sockets
from forwarder.config.sockets import within_reach


@pytest.mark.parametrize("depth", [0, 10])
@pytest.mark.skipif(not sockets.DESCRIPTORS.is_dir(), reason="needs /proc")
def test_a_socket_is_bound_and_reached_in_a_folder_of_any_depth(tmp_path: Path, depth: int) -> None:
    folder = tmp_path.joinpath(*["x" * 30] * depth)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "control.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with within_reach(path) as name:
            server.bind(name)
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        server.listen()
        with within_reach(path) as name:
            client.connect(name)


def test_where_nobody_listens_the_answer_is_the_usual_one(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120) / "control.sock"
    for make in (False, True):
        if make:
            path.parent.mkdir()
        with pytest.raises(FileNotFoundError), within_reach(path) as name, socket.socket(socket.AF_UNIX) as client:
            client.connect(name)


def test_a_system_without_proc_says_what_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "DESCRIPTORS", tmp_path / "nowhere")
    with pytest.raises(OSError, match="103 octets"), within_reach(tmp_path / ("x" * 200) / "control.sock"):
        raise AssertionError("never reached")
