"""Unix sockets that services of plugins listen on: who may open the file, and what is found in its place."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from forwarder.daemon.unix import listen_unix


async def knock(path: Path) -> bytes:
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        return bytes(await stream.receive_some(10))


async def answers(listener: trio.SocketListener, path: Path) -> bool:
    """Whether who opens this file speaks to this listener."""

    async def serve() -> None:
        while True:  # who only looked whether somebody listens has gone again
            async with await listener.accept() as stream:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(b"here")
                    return

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            return await knock(path) == b"here"


async def test_its_file_is_open_to_owner_and_group_alone(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    mask = os.umask(0)
    try:
        listener = listen_unix(path, "")
    finally:
        os.umask(mask)
    async with listener:
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
        assert await answers(listener, path)


async def test_the_umask_is_as_it_was_afterwards(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        async with listen_unix(tmp_path / "lmtp", ""):
            assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_it_is_given_to_the_group(tmp_path: Path) -> None:
    other = next(group for group in grp.getgrall() if group.gr_gid != os.getegid())
    async with listen_unix(tmp_path / "lmtp", other.gr_name):
        assert (tmp_path / "lmtp").stat().st_gid == other.gr_gid
        assert stat.S_IMODE((tmp_path / "lmtp").stat().st_mode) == 0o660


async def test_a_group_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        listen_unix(tmp_path / "lmtp", "no-such-group")
    assert os.listdir(tmp_path) == []


async def test_what_a_daemon_that_died_has_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    async with listen_unix(path, "") as listener:
        assert await answers(listener, path)


async def test_where_somebody_listens_he_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    async with listen_unix(path, "") as first:
        with pytest.raises(OSError, match="somebody listens") as refused:
            listen_unix(path, "")
        assert refused.value.errno == errno.EADDRINUSE
        assert await answers(first, path)


@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_what_is_no_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lmtp"
    path.write_text("precious") if kind == "file" else path.mkdir()
    with pytest.raises(OSError, match="is no socket"):
        listen_unix(path, "")
    assert path.exists()


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listen_unix(tmp_path / "none" / "lmtp", "")
