"""What the house must never do and no import contract of pyproject.toml can say: read off the code itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "forwarder"
FILES = sorted(PROGRAM.rglob("*.py"))
BUNDLED = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()}
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|PRAGMA|BEGIN|VACUUM)\s+[A-Za-z(*]")
SQL_ROOMS = ("storage/", "reader/notebook.py")
"""The notebook is no part of a node (docs/decisions/0001-reader-room.md)."""
EMPTY_WORDS = re.compile(r"manager|helper|utils?\Z|(?<!data)base\Z|misc|common", re.IGNORECASE)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def texts(path: Path) -> Iterator[str]:
    return (n.value for n in ast.walk(tree(path)) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def room(path: Path) -> str:
    return path.relative_to(PROGRAM).as_posix()


def test_sql_stands_in_the_database_s_room_alone() -> None:
    found = {room(path) for path in FILES if any(SQL.match(text) for text in texts(path))}
    assert "storage/ledger.py" in found, "else this test would see nothing"
    assert [name for name in found if not name.startswith(SQL_ROOMS)] == []


def test_the_daemon_names_no_plugin() -> None:
    assert "rewrite_resend" in BUNDLED
    assert [path for path in (PROGRAM / "daemon").glob("*.py") if not BUNDLED.isdisjoint(texts(path))] == []


def test_one_file_holds_a_plugin_manager() -> None:
    names = [room(path) for path in FILES if any("PluginManager" in ast.dump(n) for n in tree(path).body[1:])]
    assert names == ["plugins.py"]


def test_trio_is_the_only_loop() -> None:
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert not {"asyncio", "threading", "multiprocessing"} & {m.partition(".")[0] for m in modules}, path


def test_names_say_what_a_thing_is() -> None:
    names = {path.stem for path in FILES}
    names |= {node.name for path in FILES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)}
    assert [name for name in names if EMPTY_WORDS.search(name)] == []
