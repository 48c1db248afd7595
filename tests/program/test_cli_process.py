"""The program as a process of its own: what only a process can show."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-c", "import sys; from forwarder.cli import main; sys.exit(main())"]


def start(*arguments: str, cwd: Path, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(cwd), "XDG_DATA_HOME": str(cwd), **more}
    environment.pop("FORWARDER_CONFIG", None)
    return subprocess.Popen(
        [*PROGRAM, *arguments], cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_ctrl_c_is_quiet_and_130(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "password").write_text("secret\n")
        port = silent.getsockname()[1]
        login = f'account = "brian"\npassword_file = "{tmp_path}/password"\n'
        (tmp_path / "me.toml").write_text(f'[[agent]]\nrnaqp = "127.0.0.1:{port}"\n{login}')
        running = start("read", "--me", "me.toml", cwd=tmp_path)
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(30)
            assert connection.recv(4), "it waits for our answer now"
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("module", ["forwarder.cli.verbs", "typer", "forwarder.config.lines"])
def test_ctrl_c_while_the_program_still_loads_is_quiet_too(tmp_path: Path, module: str) -> None:
    """The impatient: nothing but the first lines has been read yet."""
    struck = (
        "import sys\n"
        "class Struck:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: sys.meta_path.remove(self); raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Struck())\n"
        "from forwarder.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", struck, "list", "--config", "nowhere"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_a_reader_of_our_output_that_goes_away_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:
        ended = subprocess.run(
            [*PROGRAM, "--help"],
            cwd=tmp_path,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.stderr == ""


@pytest.mark.parametrize("debug", ["", "1"])
def test_a_bug_is_one_line_unless_debugged(tmp_path: Path, debug: str) -> None:
    broken = """
import sys, forwarder.cli as cli, forwarder.cli.verbs as verbs
verbs.VERBS["add"] = "add:nothing"
sys.exit(cli.main(["add"]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", broken],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "FORWARDER_DEBUG": debug},
    )  # fmt: skip
    assert ended.returncode != 0
    assert ("Traceback" in ended.stderr) is bool(debug)
    if not debug:
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
        assert ended.stderr.startswith("forwarder: internal error: AttributeError: ")


def test_help_loads_no_library_it_does_not_need(tmp_path: Path) -> None:
    code = """
import sys
from forwarder.cli import main
main(["--help"])
print(*{"trio", "pydantic", "apsw", "dns", "argon2", "structlog", "tomlkit"} & sys.modules.keys())
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.splitlines()[-1] == "", "imported for nothing"


def test_every_verb_explains_itself(tmp_path: Path) -> None:
    code = """
import forwarder.cli as cli, forwarder.cli.verbs as verbs
for verb in verbs.Verbs().list_commands(None):
    assert cli.main([verb, "--help"]) == 0, verb
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Usage: forwarder status" in ended.stdout
