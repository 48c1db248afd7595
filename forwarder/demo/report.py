"""What the demo says at its end: the table, the findings, what to try next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forwarder.demo.mail import Mail, Passage
from forwarder.demo.ways import POBOX
from forwarder.demo.world import FORWARDER, LETTER, RECIPIENTS, SENDER

COLUMNS = ("address", "option", "read by", "over the wire", "fetched", "keeps", "")

TRY = (
    f"forwarder send --to sales@{POBOX},staff@{POBOX} {LETTER} --me alice.toml",
    "forwarder sent --me alice.toml",
    "forwarder read --me freda.toml",
    "forwarder read show 3 --me freda.toml",
    "forwarder read done 3 --me freda.toml",
    f"forwarder set resend@{POBOX} to=freda@staff.example --config {FORWARDER}",
    f"forwarder show hold@{POBOX} --config {FORWARDER}",
    f"forwarder why staff@{POBOX} --config {FORWARDER}",
    f"forwarder dns show {POBOX} --config {FORWARDER}",
    f"forwarder status --config {FORWARDER}",
)


def heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def print_table(console: Console, passages: Sequence[Passage]) -> None:
    heading(console, f"What happened to the letter, by its address at {POBOX}")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for title in COLUMNS:
        table.add_column(title, overflow="fold")
    for passage in passages:
        table.add_row(*map(Text, _cells(passage)))
    console.print(table)
    print(f"->  notified: {FORWARDER} forwards, {RECIPIENTS} is the readers' agent")
    print(f"<-  bodies, read from there: {SENDER} is the sender's store\n")


def print_findings(console: Console, mail: Mail, seconds: float) -> bool:
    """Whether every line is as it must be."""
    six = [passage for passage in mail.passages if passage.way.option[0].isdigit()]
    fetched = ", ".join(str(passage.sending.from_sender) for passage in six)
    print(f"Bodies the forwarder fetched, options 1 to 6: {fetched} (the sender's store's count before anybody read)")
    print(f"Packets to the forwarder's RNASP for option 6: {six[-1].sending.packets}")
    for passage in mail.passages:
        if passage.way.role:
            print(
                f"Of {passage.way.local}@ {_names(passage.closers)} won; told that it is closed: {_names(passage.late)}"
            )
        elif passage.keeps:
            print(f"Of {passage.way.local}@ the body stays with the forwarder for [pull_hold] keep, by default 30 days")
    print(f"Bodies left at the sender's store: {mail.left_at_sender}")
    return _verdict(console, mail, seconds)


def _verdict(console: Console, mail: Mail, seconds: float) -> bool:
    wrong = [f"{passage.way.address}: {text}" for passage in mail.passages for text in passage.wrong]
    if mail.left_at_sender:
        wrong.append("the sender's store keeps what all have un-pinned")
    for text in wrong:
        console.print(Text(f"WRONG  {text}", style="bold red"), soft_wrap=True)
    if not wrong:
        print(f"Every line is as it must be ({seconds:.1f} s).")
    return not wrong


def print_try_next(
    console: Console,
    folder: str,
    *,
    keep: bool,
    verb: str = "demo",
    exports: str = "XDG_DATA_HOME=$PWD",
    lines: Sequence[str] = TRY,
) -> None:
    typed, path = _program()
    heading(console, "Try next" if keep else f"Try next ({typed} {verb} --keep leaves this world running for it)")
    if keep:
        print(f"  cd {folder}; export {exports}{path}")
    for line in lines:
        print(f"  {line}")
    if keep:
        print("\nThe world runs until Ctrl-C.", flush=True)


def _program() -> tuple[str, str]:
    """The word to type for this program, and what a shell needs to find it: an environment may not be switched on."""
    program = Path(sys.executable).with_name("forwarder")
    if shutil.which("forwarder") or not program.exists():
        return "forwarder", ""
    return shlex.quote(str(program)), f" PATH={shlex.quote(str(program.parent))}:$PATH"


def _cells(passage: Passage) -> tuple[str, ...]:
    way = passage.way
    return (
        f"{way.local}@",
        way.option,
        _names(passage.intact),
        _wire(passage),
        str(passage.sending.from_sender),
        str(passage.keeps),
        "WRONG" if passage.wrong else "ok",
    )


def _wire(passage: Passage) -> str:
    sending, reading = passage.sending, passage.reading
    notified = {FORWARDER: sending.forwarder, RECIPIENTS: sending.recipients}
    fetched = {SENDER: reading.from_sender, FORWARDER: reading.from_forwarder}
    return f"-> {_counts(notified)}\n<- {_counts(fetched)}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{node} {count}" for node, count in counts.items() if count) or "nobody"


def _names(readers: Sequence[str]) -> str:
    return ", ".join(readers) or "nobody"
