"""Ann's letter goes to one address after the other; what each system says of it, and what is read, is compared."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forwarder.demo.edge.world import ANN, CAROL, DAVE, FULL, LETTER, NODE, OUTSIDE, POBOX, READERS, WORLD, EdgeWorld
from forwarder.demo.shell import Shell, until

PATIENCE = 20.0
"""Seconds for one step of a letter. Postfix asks a queue again only after minutes, so none may need that."""
LETTERS, NONE = 0, 1
"""What `fetchmail --check` ends with."""
HEADS = "grep -E -m 5 '^(Return-Path|Delivered-To: SRS0|Action|Status|Diagnostic-Code)'"
"""Of a report, what is to be seen."""
SRS = rf"SRS0=\S+={OUTSIDE}=ann@srs\.{POBOX}"


@dataclass(slots=True)
class Line:
    """One address. seen: for a person to read; wrong: what was not as it must be."""

    to: str
    way: str
    seen: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def must(self, true: bool, seen: str, otherwise: str) -> bool:
        if true:
            self.seen.append(seen)
        else:
            self.wrong.append(otherwise)
        return true


class Letters:
    """Step by step; `lines` are the findings."""

    def __init__(self, shell: Shell, world: EdgeWorld) -> None:
        self._shell, self._world = shell, world
        self.lines: list[Line] = []
        self._digest = ""
        self._srs = ""

    def why(self) -> None:
        """Before any letter: what our node would do with it."""
        self._digest = self._shell.command(f"sha256sum < {LETTER}", show=True)
        line = self._line("carol", "why says")
        said = self._shell.run("why", f"carol@{POBOX}", "--config", NODE, show=True)
        due = f"smtp by {self._world.smarthost}"
        line.must(due in said, f"{CAROL} {due}", f"no {due!r} in it")

    # -- in

    def person(self) -> None:
        line = self._sent("brian", "1 subscribe")
        if not self._accepted(line, f"brian@{POBOX}"):
            return
        self._read(line, "brian", f"brian@{POBOX}")
        self._nothing_waits(line, "brian")
        self._let_go(line)

    def role(self) -> None:
        line = self._sent("sales", "role, 1")
        if not self._accepted(line, f"sales@{POBOX}"):
            return
        self._waits(line, "freda")
        self._read(line, "brian", f"sales@{POBOX}")
        self._nothing_waits(line, "freda")
        self._let_go(line)

    def group(self) -> None:
        line = self._sent("staff", "group, 4")
        if not self._accepted(line, f"staff@{POBOX}"):
            return
        for person in READERS:
            self._read(line, person, f"staff@{POBOX}")
        self._let_go(line)

    # -- out

    def outwards(self) -> None:
        line = self._sent("carol", "3, by SMTP")
        if not self._accepted(line, f"carol@{POBOX}"):
            return
        box = f"{WORLD}/mail/carol/new"
        _, said = self._shell.wait(f"head -n 1 {box}/*", lambda code, _: code == 0, PATIENCE)
        if line.must(bool(said), f"at {CAROL}", f"did not reach {CAROL}"):
            self._same(line, f"{box}/*", CAROL)
        found = re.match(f"Return-Path: <({SRS})>$", said, re.MULTILINE)
        self._srs = found[1] if found else ""
        line.must(bool(found), "from SRS0=...", f"its envelope sender is no SRS0 address of srs.{POBOX}")
        self._let_go(line)

    def refused_outside(self) -> None:
        """Its report comes back to the SRS address, and from there to ann."""
        line = self._sent("dave", "3, by SMTP, full")
        if not self._accepted(line, f"dave@{POBOX}"):
            return
        said = self._says(self._world.mx.says_of(DAVE), "bounced")
        line.must(FULL[:9] in said, f"{FULL[:9]} from {OUTSIDE}", f"{OUTSIDE} did not refuse it")
        report = f"grep -l 'Final-Recipient: rfc822; {DAVE}' {WORLD}/mail/ann/new/* | xargs -r cat | {HEADS}"
        _, said = self._shell.wait(report, lambda code, _: code == 0, PATIENCE)
        if line.must(bool(said), "report at ann's", "no report reached ann"):
            by_srs = re.search(f"^Delivered-To: {SRS}$", said, re.MULTILINE) is not None
            line.must(by_srs, "by SRS0=...", "it did not come by an SRS address")
            due = "Return-Path: <>\n", "Action: failed\n", f"Status: {FULL[4:9]}\n"
            line.must(all(text in said for text in due), "null sender", "the report is not what it should be")
        self._let_go(line)

    # -- refused at RCPT

    def unknown(self) -> None:
        self._refused("nobody", "unknown", f"nobody@{POBOX}", "550 5.1.1")

    def forged(self) -> None:
        """The SRS address that carol's system saw, with another hash."""
        other = "B" if self._srs[5:6] == "A" else "A"
        self._refused("SRS0=...", "forged", f"SRS0={other}{self._srs[6:]}", "550 5.7.1")

    def _refused(self, to: str, way: str, mailbox: str, due: str) -> None:
        inner = self._status()["notifications"]["inner"]
        line = self._sent(to, way, mailbox)
        said = self._says(self._world.world.says_of(mailbox), "bounced")
        line.must(f"said: {due} " in said, due, f"it was not refused with {due}")
        line.must("in reply to RCPT TO" in said, "at RCPT by Postfix", "it was not refused at RCPT")
        asked = f"grep -c 'NOQUEUE: reject: RCPT.* to=<{mailbox}>' {self._world.mx.log}"
        _, told = self._shell.wait(asked, lambda code, _: code == 0, PATIENCE)
        line.must(told == "1\n", "never queued", f"mx refused it {told.strip()} times")
        now = self._status()["notifications"]["inner"]
        line.must(now == inner, "never ours", "it came in nevertheless")

    # -- at the end

    def nothing_left(self) -> None:
        line = Line("all of it", "at the end")
        self.lines.append(line)
        for person in READERS:
            self._nothing_waits(line, person)
        for mta in (self._world.mx, self._world.world):
            _, said = self._shell.wait(mta.mailq(), lambda _, out: "is empty" in out, PATIENCE)
            line.must("is empty" in said, f"mailq of {mta.folder} empty", f"{mta.folder} has mail still: {said}")
        self._let_go(line)
        self._shell.run("status", "--config", NODE, show=True)
        status = self._status()
        owed = status["waiting"]["owed"]
        line.must(owed == 0, "nothing owed", f"{owed} targets are owed something still")
        line.must(not status["setbacks"], "no setbacks", f"setbacks: {status['setbacks']}")

    # -- steps

    def _line(self, to: str, way: str) -> Line:
        self.lines.append(Line(f"{to}@", way))
        return self.lines[-1]

    def _sent(self, to: str, way: str, mailbox: str = "") -> Line:
        """mailbox: where it is not to@ our domain."""
        recipient = shlex.quote(mailbox or f"{to}@{POBOX}")
        self._shell.command(f"sendmail -C {self._world.world.etc} -i -f {ANN} {recipient} < {LETTER}")
        return self._line(to, way)

    def _accepted(self, line: Line, mailbox: str) -> bool:
        """By our node, which Postfix writes down."""
        said = self._says(self._world.mx.says_of(mailbox), "sent")
        return line.must("sent (250 2.1.5 " in said, "250", "it was not accepted")

    def _says(self, text: str, status: str) -> str:
        return self._shell.wait(text, lambda _, out: out.startswith(status), PATIENCE)[1]

    def _waits(self, line: Line, person: str) -> None:
        code, _ = self._check(person, LETTERS)
        line.must(code == LETTERS, f"waits for {person}", f"nothing waits for {person}")

    def _nothing_waits(self, line: Line, person: str) -> None:
        code, _ = self._check(person, NONE)
        line.must(code == NONE, f"nothing waits for {person}", f"something waits for {person} still")

    def _check(self, person: str, due: int) -> tuple[int, str]:
        return self._shell.wait(f"fetchmail -f {person}.rc --check", lambda code, _: code == due, PATIENCE)

    def _read(self, line: Line, person: str, mailbox: str) -> None:
        """All that waits for a person, which is one letter."""
        file = f"{person}-{mailbox.partition('@')[0]}.eml"
        fetch = f"fetchmail -f {person}.rc --mda 'cat >> {file}'"
        code, _ = self._shell.wait(fetch, lambda code, _: code == 0, PATIENCE)
        if not line.must(code == 0, f"read by {person}", f"{person} could not read it"):
            return
        self._same(line, file, person)
        text = Path(file).read_text()
        due = f"Return-Path: <{ANN}>\n", f"Delivered-To: {mailbox}\n"
        line.must(all(head in text for head in due), "", f"{person} is not told who sent it to whom")

    def _same(self, line: Line, file: str, who: str) -> None:
        """Header and body: what stands before them was added on the way."""
        said = self._shell.command(f"tail -c $(wc -c < {LETTER}) {file} | sha256sum", show=True)
        line.must(said == self._digest, "unchanged", f"{who} did not get what ann wrote")

    def _let_go(self, line: Line) -> None:
        """Our node keeps no body of it."""

        def kept() -> int:
            return int(self._status()["kept"]["messages"])

        until(lambda: kept() == 0, PATIENCE)
        line.must(kept() == 0, "nothing kept", f"our node keeps {kept()} bodies still")

    def _status(self) -> Mapping[str, Any]:
        said: Mapping[str, Any] = self._shell.watch("status", "--config", NODE, "--json")
        return said


def steps(letters: Letters) -> Sequence[tuple[str, Callable[[], None]]]:
    """A heading and what happens under it, in order."""
    return (
        ("What will become of a letter to carol@, who reads elsewhere?", letters.why),
        ("To brian@, a person: he reads it with fetchmail, and it is gone", letters.person),
        ("To sales@, a role: brian is first, so freda has nothing to do any more", letters.role),
        ("To staff@, a group: each has it", letters.group),
        ("To carol@: out by SMTP through the same Postfix, unchanged", letters.outwards),
        ("To nobody@: Postfix asks our node, and refuses at RCPT", letters.unknown),
        ("To dave@, whose system refuses it: the report comes back to ann", letters.refused_outside),
        ("To a return address that somebody made up", letters.forged),
        ("Nothing is left anywhere", letters.nothing_left),
    )
