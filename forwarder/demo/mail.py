"""The mail goes through: sent to one address after the other, measured, read, un-pinned, measured again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forwarder.cli.errors import No
from forwarder.demo.figures import SETTLE_SECONDS, Figures, Meters
from forwarder.demo.letter import ATTACHMENT, picture
from forwarder.demo.shell import Shell, until
from forwarder.demo.ways import WAYS, Way
from forwarder.demo.world import LETTER

NOTHING = Figures(0, 0, 0, 0, 0, 0)
LATE = ("closed, perhaps by you", "already handled or withdrawn")
"""What the reader of a role is told who comes second."""

Sent = Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class Passage:
    """One message on its way by one address: what was seen of it. `wrong`: what was not as it must be."""

    way: Way
    sending: Figures = NOTHING
    """Between `send` and the first reader."""
    reading: Figures = NOTHING
    """While the readers fetched it."""
    intact: list[str] = field(default_factory=list)
    """Who got it octet for octet."""
    closers: list[str] = field(default_factory=list)
    """Whose un-pin it was."""
    late: list[str] = field(default_factory=list)
    """Who came too late to un-pin it, and was told so."""
    keeps: int = 0
    wrong: list[str] = field(default_factory=list)

    def must(self, true: bool, otherwise: str) -> None:
        if not true:
            self.wrong.append(otherwise)


class Mail:
    """All passages, step by step."""

    def __init__(self, shell: Shell, meters: Meters) -> None:
        self._shell, self._meters = shell, meters
        self._digest = _digest(LETTER)
        self._numbers: dict[tuple[str, str], int] = {}
        self.passages = [Passage(way) for way in WAYS]
        self.left_at_sender = 0

    def send(self) -> None:
        for passage in self.passages:
            way = passage.way
            before = self._meters.read()
            self._shell.run("send", "--to", way.address, LETTER, "--me", "alice.toml")
            expected = Figures(way.forwarder, way.forwarder, way.recipients, way.fetched, 0, way.fetched)
            passage.sending = self._meters.settle(before, expected)
            for name, found, due in zip(Figures._fields, passage.sending, expected, strict=True):
                passage.must(found == due, f"{name.replace('_', ' ')}: {found} where {due} is due")

    def look(self) -> None:
        """At the sender's store, before any reader reads: a body that was read now was read by the forwarder."""
        sent = self._meters.sent(lambda row: row["status"] in ("notifying", "silenced"))
        for passage in self.passages:
            row = sent.get(passage.way.address, {})
            due = "readall" if passage.way.fetched else "unread"
            passage.must(row.get("status") in ("notifying", "silenced"), f"its status is {row.get('status')}")
            passage.must(row.get("read") == due, f"the store calls it {row.get('read')}, not {due}, before it is read")

    def read_and_unpin(self) -> None:
        for reader in ("brian", "bob", "freda"):
            for number, passage in self._items(reader):
                before = self._meters.read()
                self._save(reader, number, passage)
                passage.reading = _sum(passage.reading, self._meters.read().since(before))
        self._save_attachment()
        for passage in self.passages:
            self._unpin(passage)

    def close(self) -> None:
        """When all is read: every un-pin has reached the sender's store."""
        sent = self._meters.sent(lambda row: row["status"] == "silenced" and row["pinned"] is False)
        for passage in self.passages:
            row = sent.get(passage.way.address, {})
            passage.must(row.get("pinned") is False, "its un-pin did not reach the sender's store")
            passage.must(row.get("status") == "silenced", f"its sender's store still says {row.get('status')}")
            _judge_reading(passage)
        for reader in ("brian", "bob", "freda"):
            left = self._shell.run("read", "--me", f"{reader}.toml", show=True).strip()
            for passage in self.passages:
                if reader in passage.way.readers:
                    passage.must(left == "nothing waits", f"something waits for {reader} still")
        self.left_at_sender = self._meters.kept_by_sender()

    def _items(self, reader: str) -> Sequence[tuple[int, Passage]]:
        """The reader's numbers, and what they are. Raises No where one is missing."""
        wanted = {passage.way.address: passage for passage in self.passages if reader in passage.way.readers}
        numbers: dict[str, int] = {}

        def all_there() -> bool:
            said = self._shell.watch("read", "--me", f"{reader}.toml", "--json") or {"items": []}
            numbers.update({item["original"] or item["to"]: item["number"] for item in said["items"]})
            return wanted.keys() <= numbers.keys()

        if not until(all_there, SETTLE_SECONDS):
            raise No(f"forwarder demo: {', '.join(wanted.keys() - numbers.keys())} did not reach {reader}")
        self._numbers.update({(reader, address): numbers[address] for address in wanted})
        return sorted(((numbers[address], passage) for address, passage in wanted.items()), key=lambda pair: pair[0])

    def _save(self, reader: str, number: int, passage: Passage) -> None:
        file = f"{reader}-{number}.eml"
        self._shell.run("read", "save", str(number), file, "--me", f"{reader}.toml")
        if _digest(file) == self._digest:
            passage.intact.append(reader)
        passage.must(reader in passage.intact, f"what {reader} got is not what alice sent")

    def _save_attachment(self) -> None:
        """Of the message that the forwarder fetched and sent on: the way with most hands on it."""
        passage = next(passage for passage in self.passages if passage.way.local == "repush")
        number = self._numbers["brian", passage.way.address]
        words = ("read", "save", str(number), ATTACHMENT, "--attachment", ATTACHMENT)
        self._shell.run(*words, "--me", "brian.toml")
        passage.must(Path(ATTACHMENT).read_bytes() == picture(), "its attachment is not the one that alice sent")

    def _unpin(self, passage: Passage) -> None:
        """A role's readers at the same time, others one after the other."""
        kept = self._meters.read().kept
        commands = [self._done(reader, passage.way) for reader in passage.way.readers]
        if passage.way.role:
            said = self._shell.together(*commands)
        else:
            said = [self._shell.run(*words, show=True) for words in commands]
        for reader, text in zip(passage.way.readers, said, strict=True):
            if text.strip().endswith(": done"):
                passage.closers.append(reader)
            elif text.strip().endswith(LATE):
                passage.late.append(reader)
        freed = passage.way.fetched - passage.way.keeps
        until(lambda: self._meters.read().kept == kept - freed, SETTLE_SECONDS)
        passage.keeps = passage.sending.kept - (kept - self._meters.read().kept)

    def _done(self, reader: str, way: Way) -> tuple[str, ...]:
        return "read", "done", str(self._numbers[reader, way.address]), "--me", f"{reader}.toml"


def _judge_reading(passage: Passage) -> None:
    way = passage.way
    readers = len(way.readers)
    closers = 1 if way.role else readers
    by_sender, by_forwarder = (0, readers) if way.fetched else (readers, 0)
    found = passage.reading
    passage.must(len(passage.intact) == readers, f"{len(passage.intact)} of {readers} readers read it")
    passage.must(found.from_sender == by_sender, f"the sender's store served it {found.from_sender} times")
    passage.must(found.from_forwarder == by_forwarder, f"the forwarder served it {found.from_forwarder} times")
    passage.must(len(passage.closers) == closers, f"{len(passage.closers)} un-pins won, not {closers}")
    passage.must(len(passage.late) == readers - closers, "a reader who came too late was not told so")
    passage.must(passage.keeps == way.keeps, f"the forwarder keeps {passage.keeps} bodies, not {way.keeps}")


def _sum(one: Figures, other: Figures) -> Figures:
    return Figures(*map(sum, zip(one, other, strict=True)))


def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
