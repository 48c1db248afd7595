"""What the address files say, from memory where it is fresh: the core's port `Addresses`.

An entry, found or not, is trusted for `[node] recheck`, then stat-ed; a change seen bumps the generation. `look_up`
never touches the disk; `read` is one thread call for all it is asked. Names that do not exist, and answers that anybody
can make up names for (tags, patterns, catch-alls), live in bounded tables of their own: a flood evicts no real entry.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import trio

from forwarder.config.entries import Specs
from forwarder.config.lines import ConfigError
from forwarder.config.reading import ABSENT, FileState, Host, Hosts, Reader, Seen, keys
from forwarder.config.settings import Settings
from forwarder.model import Mailbox, Route, parse_mailbox
from forwarder.plugin import PeerError
from forwarder.ports import Answer, Broken, Clock, Found, Nobody, NotOurs

FOUND_MOST = 100_000
ABSENT_MOST = 100_000
DERIVED_MOST = 20_000
BROKEN_MOST = 1_000

V = TypeVar("V")


class _Slot:
    """A file as remembered. Trusted while checked <= now < until, so a clock set back trusts nothing too long."""

    __slots__ = ("answer", "checked", "state", "until")

    def __init__(self, state: FileState, checked: float, until: float) -> None:
        self.state, self.checked, self.until = state, checked, until
        self.answer = _answer(state)


class _Derived(NamedTuple):
    """An answer that several files led to, trusted as long as each of them."""

    answer: Found
    checked: float
    until: float


class AddressFiles:
    """The addresses of a configuration folder. Construction reads the domain files, never the addresses."""

    def __init__(self, folder: Path, settings: Settings, specs: Specs, clock: Clock) -> None:
        self._reader = Reader(folder, settings, specs)
        self._recheck = settings.node.recheck.total_seconds()
        self._clock = clock
        self._files: OrderedDict[Mailbox, _Slot] = OrderedDict()
        self._absent: OrderedDict[Mailbox, _Slot] = OrderedDict()
        self._derived: OrderedDict[Mailbox, _Derived] = OrderedDict()
        self._broken: dict[str, ConfigError] = {}
        self._generation = 0
        self._epoch = 0
        self._since = time.time_ns()
        self._hosts = Hosts({})
        self._host_due: dict[str, float] = {}
        self._domains_due = 0.0
        self.reload()

    @property
    def generation(self) -> int:
        """Grows whenever a change was seen: what was made of older answers is to be made anew."""
        return self._generation

    @property
    def broken(self) -> Mapping[str, ConfigError]:
        """Files in a state that cannot be used, by name: for `status`."""
        return MappingProxyType(self._broken)

    @property
    def domains(self) -> Mapping[str, Host]:
        """The hosted domains, from memory."""
        return self._hosts.by_name

    def hosted(self, domain: str) -> bool:
        """Whether mail for this domain (lower-case A-labels) is ours."""
        return domain in self._hosts.by_name

    def look_up(self, mailbox: Mailbox) -> Answer | None:
        """From memory, at once; None where a file has to be read or checked again: then `read`."""
        now = self._clock()
        slot = self._files.get(mailbox)
        if slot is not None and slot.checked <= now < slot.until:
            self._files.move_to_end(mailbox)
            return slot.answer
        return self._look_further(mailbox.folded, now)

    async def read(self, mailboxes: Collection[Mailbox]) -> Mapping[Mailbox, Answer]:
        """One thread call for all of them; keys as given."""
        asked = {mailbox: mailbox.folded for mailbox in mailboxes}
        seen = await self._read(frozenset(asked.values()))
        return {mailbox: _decide(folded, seen) for mailbox, folded in asked.items()}

    def read_here(self, mailboxes: Collection[Mailbox]) -> Mapping[Mailbox, Answer]:
        """The same in this very thread: for verbs, which have no loop to hold up."""
        asked = {mailbox: mailbox.folded for mailbox in mailboxes}
        seen = self._visit_here(frozenset(asked.values()))
        return {mailbox: _decide(folded, seen) for mailbox, folded in asked.items()}

    def contenders(self, mailbox: Mailbox) -> list[Route]:
        """Every entry that could serve a mailbox, the winner first, the shadowed after it: for `why`. Blocking."""
        folded = mailbox.folded
        seen = self._visit_here(frozenset(keys(self.domains.get(folded.domain), folded)))
        host = seen.hosts.by_name.get(folded.domain)
        if host is None or host.domain is None:
            return []
        exact = [
            (name, seen.files.get(Mailbox(name, folded.domain), ABSENT))
            for name, _ in host.domain.names(folded.localpart)
        ]
        tag = host.domain.names(folded.localpart)[-1][1]
        found = [
            state.route if name == folded.localpart else replace(state.route, matched="tag", tag=tag)
            for name, state in exact
            if state.route is not None
        ]
        return [*found, *host.domain.contenders(folded)]

    async def entry(self, entry: str) -> Route | None:
        """The route of an entry by its name, from the file as it is now; None if it is gone.

        Raises PeerError while a file is broken that never was good: later it may be.
        """
        localpart, _, domain = entry.rpartition("@")
        try:
            mailbox = parse_mailbox(entry).folded if localpart else Mailbox("", domain)
        except ValueError:
            return None
        self._distrust([mailbox])
        seen = await self._read(frozenset([mailbox]))
        state = seen.files.get(mailbox, ABSENT)
        if state.route is not None:
            return state.route
        host = seen.hosts.by_name.get(domain)
        error = state.error or (host.error if host is not None and host.domain is None else None)
        if error is not None:
            raise PeerError(str(error))
        entries = host.domain.entries() if host is not None and host.domain is not None else ()
        return next((route for route in entries if route.entry == entry), None)

    def changed(self, address: Mailbox) -> None:
        """A verb wrote or removed this address: its next look-up reads the file."""
        self._distrust([address.folded])
        self._change()
        self._epoch += 1

    def reload(self) -> None:
        """Reads the domain files; every address is due at its next look-up."""
        known = {name: replace(host, stamp=None, addresses=None, lost=False) for name, host in self.domains.items()}
        hosts = self._reader.domains(self._reader.hosts(Hosts(known)), known)
        now = self._clock()
        self._broken.clear()
        self._remember_hosts(hosts, hosts.by_name, now)
        self._distrust([*self._files, *self._absent])
        self._change()
        self._epoch += 1

    async def _read(self, asked: frozenset[Mailbox]) -> Seen:
        """A visit in a thread, made again if something changed under it: it may have read the older file."""
        while True:
            now, epoch, hosts = self._clock(), self._epoch, self._hosts
            old, fresh = self._known(asked, now)
            seen = await trio.to_thread.run_sync(self._reader.visit, hosts, asked, old, fresh)
            if epoch == self._epoch and hosts is self._hosts:
                self._remember(seen, asked, fresh, now)
                return seen

    def _visit_here(self, asked: frozenset[Mailbox]) -> Seen:
        now = self._clock()
        old, fresh = self._known(asked, now)
        seen = self._reader.visit(self._hosts, asked, old, fresh)
        self._remember(seen, asked, fresh, now)
        return seen

    def _known(self, asked: frozenset[Mailbox], now: float) -> tuple[dict[Mailbox, FileState], frozenset[Mailbox]]:
        """What is remembered of the files that may serve these mailboxes, and which of them are fresh."""
        old: dict[Mailbox, FileState] = {}
        fresh = set()
        for mailbox in asked:
            for key in keys(self.domains.get(mailbox.domain), mailbox):
                slot = self._slot(key)
                if slot is not None:
                    old[key] = slot.state
                    if slot.checked <= now < slot.until:
                        fresh.add(key)
        return old, frozenset(fresh)

    def _slot(self, key: Mailbox) -> _Slot | None:
        return self._files.get(key) or self._absent.get(key)

    def _look_further(self, folded: Mailbox, now: float) -> Answer | None:
        """The long way in memory: another spelling, a tag, a pattern, a catch-all, nobody."""
        host = self.domains.get(folded.domain)
        if host is None or host.domain is None:
            due = self._domains_due if host is None else self._host_due.get(host.name, 0.0)
            return _decide(folded, Seen(self._hosts, {})) if due - self._recheck <= now < due else None
        derived = self._derived.get(folded)
        if derived is not None and derived.checked <= now < derived.until:
            self._derived.move_to_end(folded)
            return derived.answer
        files: dict[Mailbox, FileState] = {}
        checked, until = now, now + self._recheck
        for key in keys(host, folded):
            slot = self._slot(key)
            if slot is None or not slot.checked <= now < slot.until:
                return None
            files[key] = slot.state
            checked, until = min(checked, slot.checked), min(until, slot.until)
            if slot.state is not ABSENT:
                break
        answer = _decide(folded, Seen(self._hosts, files))
        if isinstance(answer, Found) and folded not in self._files:
            _put(self._derived, folded, _Derived(answer, checked, until), DERIVED_MOST)
        return answer

    def _remember(self, seen: Seen, asked: frozenset[Mailbox], fresh: frozenset[Mailbox], now: float) -> None:
        self._remember_hosts(seen.hosts, {mailbox.domain for mailbox in asked}, now)
        for mailbox, state in seen.files.items():
            old = self._slot(mailbox)
            if old is not None and old.state is state and mailbox in fresh:
                continue
            if _tells(state, old.state if old else None, self._since):
                self._change()
            slot = _Slot(state, now, now + self._recheck)
            if state is ABSENT:
                self._files.pop(mailbox, None)
                _put(self._absent, mailbox, slot, ABSENT_MOST)
            else:
                self._absent.pop(mailbox, None)
                _put(self._files, mailbox, slot, FOUND_MOST)
            if state.error or (old and old.state.error):
                self._note(self._reader.name(mailbox), state.error)

    def _remember_hosts(self, hosts: Hosts, looked: Iterable[str], now: float) -> None:
        """The domains as seen; entries of those that changed were made with older defaults and are due."""
        before = self._hosts
        self._hosts = hosts
        self._domains_due = now + self._recheck
        self._host_due.update(dict.fromkeys(looked & hosts.by_name.keys(), self._domains_due))
        if hosts is before:
            return
        self._note("domains", hosts.error)
        changed = set()
        for name in before.by_name.keys() | hosts.by_name.keys():
            old, new = before.by_name.get(name), hosts.by_name.get(name)
            if old is not new:
                self._note(f"domains/{name}.toml", new.error if new else None)
            if old is None or new is None or old.domain is not new.domain:
                changed.add(name)
            elif old.addresses is not None and old.addresses != new.addresses:
                self._change()
        if changed:
            self._distrust([key for key in self._files if key.domain in changed])
            self._change()

    def _distrust(self, mailboxes: Iterable[Mailbox]) -> None:
        for mailbox in mailboxes:
            slot = self._slot(mailbox)
            if slot is not None:
                slot.until = slot.checked

    def _change(self) -> None:
        self._generation += 1
        self._derived.clear()

    def _note(self, file: str, error: ConfigError | None) -> None:
        self._broken.pop(file, None)
        if error is not None and len(self._broken) < BROKEN_MOST:
            self._broken[file] = error


def _put(table: OrderedDict[Mailbox, V], key: Mailbox, value: V, most: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)


def _tells(state: FileState, old: FileState | None, since: int) -> bool:
    """Whether this is a change: of what is remembered or, where nothing is, of a file younger than our memory."""
    if old is not None:
        return state.route != old.route or str(state.error) != str(old.error)
    return state is not ABSENT and (state.stamp is None or state.stamp.mtime_ns > since)


def _answer(state: FileState) -> Found | Broken | None:
    if state.route is not None:
        return Found(state.route)
    return _broken(state.error) if state.error is not None else None


def _broken(error: ConfigError) -> Broken:
    return Broken(error.file, error.line, f"{error.key}: {error.text}" if error.key else error.text)


def _decide(mailbox: Mailbox, seen: Seen) -> Answer:
    """Who wins for a folded mailbox, by what was seen (operator 2)."""
    host = seen.hosts.by_name.get(mailbox.domain)
    if host is None:
        return NotOurs()
    if host.domain is None:
        return _broken(host.error or ConfigError(f"domains/{host.name}.toml", 0, "", "cannot be used"))
    for localpart, tag in host.domain.names(mailbox.localpart):
        answer = _answer(seen.files.get(Mailbox(localpart, mailbox.domain), ABSENT))
        if isinstance(answer, Found) and localpart != mailbox.localpart:
            return Found(replace(answer.route, matched="tag", tag=tag))
        if answer is not None:
            return answer
    route = host.domain.otherwise(mailbox)
    return Nobody(host.domain.unknown == "refuse") if route is None else Found(route)
