"""How answers are printed: a table for people, JSON for programs. Both come from the same rows.

JSON schemas are stable: keys are added, never renamed; times are RFC 3339 in UTC, sizes octets, "nothing" is null.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from forwarder.cli.errors import one_line

Row = Mapping[str, Any]


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_line(text: str) -> None:
    """One line for people; what strangers wrote in it cannot move the cursor."""
    print(one_line(text))


def print_table(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Rows by their columns; a heading each. On a terminal by rich, else aligned with blanks."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    if sys.stdout.isatty():
        _rich(columns, cells)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [list(columns), *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_facts(facts: Row) -> None:
    """One thing's facts, a line each, the names aligned; what is None is left out."""
    shown = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        for number, line in enumerate(_cells(value)):
            print(f"{name if number == 0 else '':{width}}  {line}")


def when(seconds: int | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def size_of(octets: int | None) -> str | None:
    """Octets for people: 512 B, 1.4 KiB, 30 MiB."""
    if octets is None:
        return None
    value, unit = float(octets), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"


def _cells(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [_cell(item) for item in values] or [""]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return one_line(str(value))


def _rich(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in cells:
        table.add_row(*map(Text, line))
    Console().print(table)
