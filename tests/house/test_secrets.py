"""What protocol 8 forbids anywhere in the program, read off the code: a key in the log, a command of a stranger's, a
connection that the address filter never saw."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = [path for room in ("forwarder", "plugins") for path in sorted((ROOT / room).rglob("*.py"))]
LOGS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
SECRET = frozenset({"identifier", "key", "password", "token", "secret", "private", "capability"})
RUN = frozenset({"subprocess", "pty", "pexpect"})
RUNNING = frozenset({"system", "popen", "eval", "exec", "spawnv", "execv", "execve", "execvp", "posix_spawn"})
DIALS = frozenset({"open_tcp_stream", "open_ssl_over_tcp_stream", "create_connection"})


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def place(path: Path, node: ast.expr) -> str:
    return f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"


def named(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_handle(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and named(node.func) == "handle"


def bare(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of an expression of which no handle is made."""
    if is_handle(node):
        return
    yield node
    for child in ast.iter_child_nodes(node.iter if isinstance(node, ast.comprehension) else node):
        yield from bare(child)


def tells(path: Path, value: ast.expr) -> bool:
    """Whether a secret is in it. A variable that was made a handle is none."""
    made = {named(node.targets[0]) for node in nodes(path) if isinstance(node, ast.Assign) and is_handle(node.value)}
    return any(named(part) in SECRET and not (isinstance(part, ast.Name) and part.id in made) for part in bare(value))


def log_calls(path: Path) -> Iterator[ast.Call]:
    for node in nodes(path):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in LOGS and named(node.func.value).endswith("log"):
            yield node


def test_the_log_holds_no_key_password_or_name_of_a_list() -> None:
    calls = [(path, call) for path in FILES for call in log_calls(path)]
    assert len(calls) > 30, "else this test would see nothing"
    values = [(path, value) for path, call in calls for value in (*call.args, *(word.value for word in call.keywords))]
    values = [(path, value) for path, value in values if SECRET.intersection(map(named, bare(value)))]
    assert [place(path, value) for path, value in values if tells(path, value)] == []


def test_nothing_runs_a_command_or_text_as_code() -> None:
    """But the demo, which runs the program itself."""
    running = []
    for path in FILES:
        for node in nodes(path):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                if RUN.intersection(module.partition(".")[0] for module in modules):
                    running.append(path.relative_to(ROOT).as_posix())
            elif isinstance(node, ast.Call) and named(node.func) in RUNNING:
                running.append(place(path, node))
    assert {file for file in running if not file.startswith("forwarder/demo/")} == set()
    assert "forwarder/demo/shell.py" in running, "else this test would see nothing"


def test_connections_to_peers_are_opened_in_one_place() -> None:
    """So that every one passes the address filter with the very address that is dialled (8.3). A plugin's own
    smarthost is named by the operator, not by strangers."""
    opened = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "forwarder").rglob("*.py")
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and (
            named(node.func) in DIALS or (named(node.func) == "connect" and ast.unparse(node.func) == "opened.connect")
        )
    }
    assert opened == {"forwarder/net/dial.py"}
