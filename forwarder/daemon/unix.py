"""Unix sockets to listen on: whoever may open the file may speak. One that nobody listens on any more is replaced."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from pathlib import Path

import trio

from forwarder.config.sockets import within_reach

BACKLOG = 128
MODE = 0o660


def listen_unix(path: Path, group: str) -> trio.SocketListener:
    """A listener at this path, mode 0660, of this group ("" = our own). Raises OSError, KeyError for no such group."""
    number = grp.getgrnam(group).gr_gid if group else -1
    _clear(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o177)  # nobody but us, until the group is set
        try:
            with within_reach(path) as name:
                made.bind(name)
        finally:
            os.umask(mask)
        os.chown(path, -1, number)
        path.chmod(MODE)
        made.listen(BACKLOG)
        made.setblocking(False)
        return trio.SocketListener(trio.socket.from_stdlib_socket(made))
    except BaseException:
        made.close()
        raise


def _clear(path: Path) -> None:
    """Removes what a daemon that died has left. Raises OSError where somebody listens, or where it is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "is there already and is no socket", str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock, within_reach(path) as name:
        try:
            knock.connect(name)
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "somebody listens there", str(path))
