"""A Postfix of a test's own: its folders, its port on the loopback, and the lines of main.cf that the test gives."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

POSTFIX = shutil.which("postfix", path="/usr/sbin")

MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = mx.pobox.example
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
smtp_host_lookup = native
queue_run_delay = 2s
minimal_backoff_time = 2s
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o local_header_rewrite_clients=
pickup   unix       n - n 60  1 pickup
cleanup  unix       n - n -   0 cleanup
qmgr     unix       n - n 300 1 qmgr
rewrite  unix       - - n -   - trivial-rewrite
bounce   unix       - - n -   0 bounce
defer    unix       - - n -   0 bounce
trace    unix       - - n -   0 bounce
error    unix       - - n -   - error
retry    unix       - - n -   - error
smtp     unix       - - n -   - smtp
proxymap unix       - - n -   - proxymap
anvil    unix       - - n -   1 anvil
postlog  unix-dgram n - n -   1 postlogd
"""


@contextmanager
def postfix(folder: Path, port: int, main: Sequence[str], master: Sequence[str] = ()) -> Iterator[None]:
    """Runs until the block ends, main.cf and master.cf with these lines more. Skips without Postfix or root."""
    if not POSTFIX:
        pytest.skip("postfix is not installed: apt-get install postfix")
    if os.geteuid() != 0:
        pytest.skip("Postfix must be started by root")
    _furnish(folder, port, main, master)
    command = [POSTFIX, "-c", f"{folder}/etc"]
    started = subprocess.run([*command, "start"], capture_output=True, text=True, timeout=60)
    assert started.returncode == 0, f"{started.stdout}{started.stderr}"
    try:
        yield
    finally:
        subprocess.run([*command, "stop"], check=True, capture_output=True, timeout=60)


def _furnish(folder: Path, port: int, main: Sequence[str], master: Sequence[str]) -> None:
    for name in ("etc", "queue", "data"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", "postfix")
    for parent in (folder, *folder.parents):  # pytest's folders are its user's alone
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    (folder / "etc" / "main.cf").write_text("\n".join([MAIN.format(folder=folder), *main, ""]))
    (folder / "etc" / "master.cf").write_text("\n".join([MASTER.format(port=port), *master, ""]))
