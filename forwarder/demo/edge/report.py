"""The table at the end, and what to try next."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forwarder.demo.edge.mail import Line
from forwarder.demo.edge.world import ANN, LETTER, MX, NODE, POBOX, WORLD
from forwarder.demo.report import heading

COLUMNS = ("address", "option", "what was seen", "")

TRY = (
    f"sendmail -C $PWD/{WORLD}/etc -i -f {ANN} sales@{POBOX} < {LETTER}",
    "fetchmail -f freda.rc --mda cat",
    f"forwarder why nobody@{POBOX} --config {NODE}",
    f"forwarder status --config {NODE}",
    f"postqueue -c $PWD/{MX}/etc -p",
    f"tail {MX}/log",
)


def print_table(console: Console, lines: Sequence[Line]) -> None:
    heading(console, f"What became of Ann's letter, by its address at {POBOX}")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for title in COLUMNS:
        table.add_column(title, overflow="fold")
    for line in lines:
        seen = ", ".join(text for text in line.seen if text)
        table.add_row(*map(Text, (line.to, line.way, seen, "WRONG" if line.wrong else "ok")))
    console.print(table)
    print()


def print_verdict(console: Console, lines: Sequence[Line], seconds: float) -> bool:
    """Whether every line is as it must be."""
    wrong = [f"{line.to}: {text}" for line in lines for text in line.wrong]
    for text in wrong:
        console.print(Text(f"WRONG  {text}", style="bold red"), soft_wrap=True)
    if not wrong:
        print(f"Every line is as it must be ({seconds:.1f} s).")
    return not wrong
