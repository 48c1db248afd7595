"""What was acknowledged, what arrived where, and what must therefore be true (the tables of docs/states.md).

The peers write it down as it happens, in a process that is never killed. `wrong` is what no crash may bring about.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from .clock import Control

FOREVER = float("inf")
HOURS_20 = 20 * 3600.0
ROLES = {
    "role": ("a@ext.test", "b@old.test", "late@ext.test"),
    "leaf": ("d@ext.test",),
    "one": ("c@ext.test",),
    "escalate": ("x@ext.test", "y@old.test"),
}
COPIES = {"pull": ("p@ext.test",), "share": ("q@ext.test", "r@old.test"), "hold": ("freda", "brian")}
STICKY = ("s@ext.test", "t@ext.test", "u@ext.test")
WORKS = ("timer", "again", "both", "escalate")
PEEKED = ("sub", "leaf", "both")
MESSAGES = ("m@ext.test", "n@old.test", "sub@pobox.test", "moved@ext.test", "copy@ext.test")
"""To whom our originator writes."""
BEYOND = {"moved@ext.test": ("moved2@ext.test",), "copy@ext.test": ("copy@ext.test", "copy2@ext.test")}
"""Who gets keys of their own where an agent told our store to go there."""


class Sent:
    """A notification of the sender's store. acked: when it was answered taken; 0: it never was."""

    def __init__(self, name: str, number: int, now: float) -> None:
        self.key = secrets.token_bytes(16)
        self.name = name
        self.number = number
        self.due = now
        self.acked = 0.0
        self.refused = 0
        self.verified = False
        self.doubtful = False
        self.repeats: Counter[int] = Counter()
        self.silenced = self.unpinned = self.withdrawn = False

    @property
    def body(self) -> bytes:
        return body(self.number)

    @property
    def gone(self) -> bool:
        return self.unpinned or self.withdrawn


class Own:
    """A key of our store, as whoever holds it knows it. number: of the message he read; closed: he was told so."""

    def __init__(self, key: bytes, holder: str) -> None:
        self.key = key
        self.holder = holder
        self.number: int | None = None
        self.closed = False
        self.silenced = 0  # in which life it was acknowledged; so with unpinned and cancelled
        self.tried = False
        self.unpinned = 0
        self.cancelling = False
        self.cancelled = 0
        self.alone = False  # silenced, and its store knows of nobody beyond it (by Track)
        self.served: set[object] = set()  # sessions that have got octets of it; one life each
        self.unpinners: set[object] = set()


class Submission:
    """A message of our originator. keys: once an answer with them came."""

    def __init__(self, number: int, to: tuple[str, ...], now: float) -> None:
        self.number = number
        self.to = to
        self.at = now
        self.keys: tuple[bytes, ...] = ()
        self.may_double = False
        self.verified = False


def body(number: int) -> bytes:
    """Most are small; some need a file of their own."""
    return b"Subject: %d\n\n" % number + b"%d " % number * (number % 977) * (1 if number % 5 else 20)


class Truth:
    def __init__(self, control: Control, diary: Path) -> None:
        self.control = control
        self._diary = diary
        self._diary_at = 0
        self.wrong: list[str] = []
        self.life = 0
        self.sent: dict[bytes, Sent] = {}
        self.submissions: dict[int, Submission] = {}
        self.own: dict[tuple[bytes, str], Own] = {}
        self._holders: dict[bytes, list[Own]] = defaultdict(list)
        self._readers: dict[int, list[Own]] = defaultdict(list)
        self._sources: dict[int, Sent] = {}
        self.got: dict[tuple[bytes, str], Counter[int]] = defaultdict(Counter)
        self._last: dict[tuple[bytes, str], float] = {}
        self.seen: dict[str, set[bytes]] = defaultdict(set)
        self.works: dict[bytes, list[dict[str, int]]] = defaultdict(list)
        self.copies: dict[tuple[int, str], set[bytes]] = defaultdict(set)
        self.extra: Counter[str] = Counter()
        self.checked: Counter[str] = Counter()
        self._number = 0

    def number(self) -> int:
        self._number += 1
        return self._number

    def fault(self, *words: object) -> None:
        self.wrong.append(f"life {self.life}: {' '.join(map(str, words))}")

    # -- what the peers tell

    def arrived(self, key: bytes, mailbox: str, store: str) -> None:
        """A target's agent was notified."""
        lives = self.got[key, mailbox]
        lives[self.life] += 1
        self.checked["arrivals"] += 1
        before, self._last[key, mailbox] = self._last.get((key, mailbox)), self.control.now
        if before is not None:
            soon = self.control.now - before < HOURS_20
            self.extra["to targets, by a crash" if soon else "to targets, daily"] += 1
        if store == "isp.test":
            sent = self.sent.get(key)
            if sent is None:
                self.fault("a target got a key that nobody sent", key.hex(), mailbox)
            elif lives[self.life] > 1 + sent.repeats[self.life]:
                self.fault(mailbox, "got", sent.name, key.hex(), lives[self.life], "times in one life")
        else:
            self._of_ours(key, mailbox, lives)

    def _of_ours(self, key: bytes, mailbox: str, lives: Counter[int]) -> None:
        own = self.hold(key, mailbox)
        if own.silenced and own.silenced < self.life:
            self.fault(mailbox, "was notified of", key.hex(), "though it was silenced in life", own.silenced)
        if lives[self.life] > 1:
            self.fault(mailbox, "got", key.hex(), "of our store", lives[self.life], "times in one life")

    def send(self, name: str) -> Sent:
        """The sender's store has something new."""
        sent = Sent(name, self.number(), self.control.now)
        self.sent[sent.key] = self._sources[sent.number] = sent
        return sent

    def hold(self, key: bytes, holder: str) -> Own:
        own = self.own.get((key, holder))
        if own is None:
            own = self.own[key, holder] = Own(key, holder)
            self._holders[key].append(own)
        return own

    def forget(self) -> None:
        """All is over: an epoch."""
        for memory in (self.sent, self.submissions, self.own, self.copies, self._last, self.works):
            memory.clear()
        for index in (self._holders, self._readers, self._sources, self.got):
            index.clear()
        for seen in self.seen.values():
            seen.clear()

    def read(self, own: Own, octets: bytes) -> None:
        """A reader got the whole message."""
        number = int(octets.split(b"\n")[0].removeprefix(b"Subject: "))
        if octets != body(number):
            self.fault(own.holder, "read other octets under", own.key.hex())
        if own.number is None:
            own.number = number
            self._readers[number].append(own)
        keys = self.copies[number, own.holder]
        keys.add(own.key)
        self.checked["reads"] += 1
        submission = self.submissions.get(number)
        if len(keys) > 1 and not (submission and submission.may_double):
            self.fault(own.holder, "has", len(keys), "keys for message", number)

    def closed_by(self, own: Own, session: object) -> str:
        """Why octets of it may no longer come to this session: an un-pin or a cancel was acknowledged (protocol 4).

        The one grace: who has got octets before in this very session, and did not un-pin in it, goes on after another
        session's un-pin; of his own key, or of one that is linked to it. A cancel, and a new life, leave none.
        """
        closers = [one for one in self._mates(own) if one.unpinned]
        if not closers:
            return f"by a cancel of life {own.cancelled}" if own.cancelled else ""
        self.checked["looks after an un-pin"] += 1
        if session in own.served and not any(session in one.unpinners for one in closers):
            return ""
        said = ", ".join(f"{one.holder} in life {one.unpinned}" for one in closers)
        return f"by {said}; this session {'had' if session in own.served else 'had not'} got octets before"

    def _mates(self, own: Own) -> list[Own]:
        """Itself, and whose keys end with it: other holders' of a role's copy."""
        linked = [holder for name in ("share", "hold") for holder in COPIES[name] if own.holder in COPIES[name]]
        if own.number is None or own.holder not in linked:
            return [own]
        return [one for one in self._readers[own.number] if one.holder in linked]

    def closed_to(self, own: Own) -> bool:
        """Whether errornosuchmessage may be the answer to this reader."""
        if own.tried or own.cancelling:
            return True
        if own.number is None:
            return any(other.cancelling for other in self._holders[own.key]) or self._perhaps(own)
        return self._ended(own.number)

    def _perhaps(self, own: Own) -> bool:
        """Nobody has read under this key: it may be a copy that another has closed, or that was withdrawn."""
        mates = [holders for holders in COPIES.values() if own.holder in holders and len(holders) > 1]
        cancelled = own.holder in (*MESSAGES, *(to for beyond in BEYOND.values() for to in beyond))
        return bool(mates) or (cancelled and any(one.cancelling for one in self.own.values()))

    def _ended(self, number: int) -> bool:
        same = self._readers[number]
        linked = {holder for name in ("share", "hold") for holder in COPIES[name]}
        if any(one.tried and one.holder in linked for one in same) or any(one.cancelling for one in same):
            return True
        submission, source = self.submissions.get(number), self._sources.get(number)
        if submission is not None:
            return any(one.cancelling for key in submission.keys for one in self._holders[key])
        return source is not None and source.withdrawn

    def unpinned(self, own: Own) -> None:
        """noerror to an un-pin."""
        own.unpinned, own.silenced = self.life, own.silenced or self.life
        self.checked["un-pins"] += 1
        if own.number is None:
            return
        linked = next((h for h in (COPIES["share"], COPIES["hold"]) if own.holder in h), ())
        winners = {one.holder for one in self._readers[own.number] if one.unpinned and one.holder in linked}
        if len(winners) > 1:
            self.fault("message", own.number, "of a role was closed by", sorted(winners))

    # -- at an audit

    def open_items(self) -> list[str]:
        """What was acknowledged and has not arrived."""
        self._read_diary()
        found = []
        for sent in self.sent.values():
            if sent.acked and not sent.verified:
                missing = list(self._missing(sent))
                sent.verified = not missing
                if missing:
                    found.append(f"{sent.name} {sent.key.hex()} of {sent.number}: {', '.join(missing)}")
        for submission in self.submissions.values():
            if submission.keys and not submission.verified:
                missing = list(self._unread(submission))
                submission.verified = not missing
                if missing:
                    found.append(f"message {submission.number}: {', '.join(missing)}")
        return found

    def _missing(self, sent: Sent) -> Iterator[str]:
        name, key = sent.name, sent.key
        if name in PEEKED and key not in self.seen["brian"]:
            yield "brian has not seen it"
        if name == "take" and key not in self.seen["toby"]:
            yield "toby has not got it"
        for target in ROLES.get(name, ()):
            if not self.got[key, target]:
                yield f"{target} has not got it"
        if not sent.withdrawn:
            ended = self._ended(sent.number)
            for holder in COPIES.get(name, ()):
                if not self.copies[sent.number, holder] and not ended:
                    yield f"{holder} has no copy"
        if name == "sticky" and not any(self.got[key, target] for target in STICKY):
            yield "no target has got it"
        if name in WORKS and not self.works[key]:
            yield "its work was not done"
        if name == "again" and len({line["due"] for line in self.works[key]}) < 2:
            yield "its work was not done a second time"

    def _unread(self, submission: Submission) -> Iterator[str]:
        for to, key in zip(submission.to, submission.keys, strict=True):
            if any(own.cancelling for own in self._holders[key]):
                continue
            for holder in BEYOND.get(to, (to,)):
                if holder == "sub@pobox.test":
                    # its originator's key is known here before anybody is notified: who un-pins or silences by it ends
                    # the matter
                    ended = any(own.unpinned or own.silenced for own in self._holders[key])
                    if key not in self.seen["brian"] and not ended:
                        yield "brian has not seen it"
                elif not self.copies[submission.number, holder]:
                    if holder != to and self.hold(key, to).alone:
                        # killed before the agent's answer with its copies was on the disk, then silenced by its
                        # reader: the agent is never asked again, and nobody was told that there is a copy
                        self.checked["silenced before its copies were known"] += 1
                    else:
                        yield f"{holder} has not read it"

    def _read_diary(self) -> None:
        if not self._diary.exists():
            return
        with self._diary.open() as file:
            file.seek(self._diary_at)
            for text in file:
                line = json.loads(text)
                self.works[bytes.fromhex(line["key"])].append(line)
            self._diary_at = file.tell()

    def check_works(self) -> None:
        """Never before its time, in one life once; the counts that went with them are all different."""
        counts: dict[str, dict[int, bytes]] = defaultdict(dict)
        for key, lines in self.works.items():
            in_life: Counter[tuple[int, int]] = Counter()
            for line in lines:
                in_life[line["life"], line["due"]] += 1
                if line["now"] < line["due"]:
                    self.fault(line["name"], key.hex(), "was done before its time")
                if counts[str(line["name"])].setdefault(line["count"], key) != key:
                    self.fault(line["name"], "counted", line["count"], "twice: its memory went back")
            if (most := max(in_life.values())) > 1:
                self.fault(lines[0]["name"], key.hex(), "was done", most, "times in one life")
            self.extra["works"] += sum(in_life.values()) - len({line["due"] for line in lines})
        for sent in self.sent.values():
            if sent.name == "sticky" and len([t for t in STICKY if self.got[sent.key, t]]) > 1:
                self.fault("sticky", sent.key.hex(), "went to more than one target")

    def release(self) -> None:
        """After an audit: what is verified may be repeated by the store, read away and closed."""
        now = self.control.now
        for sent in list(self.sent.values()):
            if sent.verified and not sent.silenced and not sent.gone:
                sent.due = now + 86400 + 600 if sent.number % 3 == 0 else FOREVER
                sent.unpinned = sent.number % 3 == 1 and sent.name not in COPIES
