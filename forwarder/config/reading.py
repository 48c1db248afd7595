"""Looking at the files of domains and addresses: what the disk says now, beside what it said before.

Only "no such file" means nobody. Whatever else goes wrong keeps the last good version in force and is told as an error.
All of this is plain blocking code: it runs in a thread, or in a verb.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from forwarder.config.domains import Domain, compile_domain, domain_name
from forwarder.config.entries import Specs, compile_entry
from forwarder.config.lines import ConfigError, ConfigErrors, Document, Stamp, inside, parse, read_text, stamp_of
from forwarder.config.names import ADDRESSES, DOMAINS, address_file, domain_file, is_leftover
from forwarder.config.settings import Settings
from forwarder.model import Mailbox, Route

_RACY_NS = 50_000_000


class FileState(NamedTuple):
    """An address file as last seen. No route and no error: there is none. Both: the last good version is in force.

    stamp None: to be read again at the next look, for it could not be read, or was so new that a further change might
    not show. domain: whose defaults it was read with.
    """

    stamp: Stamp | None = None
    route: Route | None = None
    error: ConfigError | None = None
    domain: Domain | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A domain file as last seen. addresses: its folder's stamp; lost: the folder was there and is there no more."""

    name: str
    stamp: Stamp | None = None
    domain: Domain | None = None
    error: ConfigError | None = None
    addresses: Stamp | None = None
    lost: bool = False


class Hosts(NamedTuple):
    """All hosted domains, and the stamp of the folder `domains`."""

    by_name: Mapping[str, Host]
    stamp: Stamp | None = None
    error: ConfigError | None = None


class Seen(NamedTuple):
    """What one visit to the disk found."""

    hosts: Hosts
    files: dict[Mailbox, FileState]


ABSENT = FileState()


class Reader:
    """Reads a configuration folder; has no memory of its own."""

    def __init__(self, folder: Path, settings: Settings, specs: Specs) -> None:
        self.folder = folder.absolute()
        self.settings = settings
        self.specs = specs

    def hosts(self, old: Hosts) -> Hosts:
        """The folder of domains: new ones are read, gone ones dropped, known ones kept as they are."""
        try:
            stamp = stamp_of(os.stat(self.folder / DOMAINS))
            if stamp == old.stamp:
                return old
            names = {name for file in os.listdir(self.folder / DOMAINS) if (name := _hosted_by(file))}
        except FileNotFoundError:
            if not old.by_name:
                return old
            return _kept(old, "the folder is gone; the last known domains stay")
        except OSError as error:
            return _kept(old, f"cannot be read: {error.strerror}")
        hosts = {name: old.by_name.get(name) or self.host(Host(name)) for name in sorted(names)}
        racy = time.time_ns() - stamp.mtime_ns < _RACY_NS
        return Hosts({name: host for name, host in hosts.items() if host}, None if racy else stamp)

    def host(self, old: Host) -> Host | None:
        """One domain file and the stamp of its addresses' folder; the very same object if nothing changed."""
        path = domain_file(self.folder, old.name)
        file = inside(path, self.folder)
        try:
            if old.stamp is not None and stamp_of(os.stat(path)) == old.stamp:
                return self._with_folder(old)
            text, stamp = read_text(path, file)
            domain = compile_domain(parse(text, file), old.name, self.specs, self.settings.limits)
        except FileNotFoundError:
            if not os.path.lexists(path) and path.parent.is_dir():
                return None
            return self._with_folder(_failed(old, _dangling(file)))
        except OSError as error:
            return self._with_folder(_failed(old, _unreadable(file, error)))
        except ConfigErrors as found:
            return self._with_folder(_failed(old, found.errors[0]))
        if old.domain is not None and old.domain.document == domain.document:
            domain = old.domain
        return self._with_folder(replace(old, stamp=_settled(stamp), domain=domain, error=None))

    def name(self, mailbox: Mailbox) -> str:
        """The file of a mailbox as people see it."""
        path = address_file(self.folder, mailbox)
        return inside(path, self.folder) if path else str(mailbox)

    def file(self, mailbox: Mailbox, host: Host, old: FileState) -> FileState:
        """The file of a folded mailbox of a domain; the very same object if nothing changed."""
        path = address_file(self.folder, mailbox)
        if path is None or host.domain is None:
            return ABSENT
        file = inside(path, self.folder)
        try:
            if old.stamp is not None and old.domain is host.domain and stamp_of(os.stat(path)) == old.stamp:
                return old
            text, stamp = read_text(path, file)
            route = self.compile(text, file, mailbox, host.domain)
        except FileNotFoundError:
            if host.lost:
                error = ConfigError(
                    f"{ADDRESSES}/{host.name}", 0, "", "the folder is gone; the last known entries stay"
                )
                return FileState(None, old.route, error, host.domain)
            return FileState(None, old.route, _dangling(file), host.domain) if os.path.lexists(path) else ABSENT
        except OSError as error:
            return FileState(None, old.route, _unreadable(file, error), host.domain)
        except ConfigErrors as found:
            return FileState(None, old.route, found.errors[0], host.domain)
        return FileState(_settled(stamp), route, None, host.domain)

    def compile(self, text: str, file: str, mailbox: Mailbox, domain: Domain) -> Route:
        """The route that the text of an address file says. Raises ConfigErrors."""
        return self.compile_document(parse(text, file), mailbox, domain)

    def compile_document(self, document: Document, mailbox: Mailbox, domain: Domain) -> Route:
        """The same of a file already parsed. Raises ConfigErrors."""
        return compile_entry(domain.place(document), self.specs, self.settings.limits, mailbox, "exact")

    def visit(
        self, hosts: Hosts, asked: frozenset[Mailbox], old: Mapping[Mailbox, FileState], fresh: frozenset[Mailbox]
    ) -> Seen:
        """The domains and files of the folded mailboxes asked for; those in `fresh` are taken from `old`."""
        hosts = self.domains(self.hosts(hosts), {mailbox.domain for mailbox in asked})
        files: dict[Mailbox, FileState] = {}
        for mailbox in asked:
            host = hosts.by_name.get(mailbox.domain)
            for key in keys(host, mailbox):
                known = old.get(key, ABSENT)
                assert host is not None
                still = key in fresh and (known is ABSENT or known.domain is host.domain)
                files[key] = known if still else self.file(key, host, known)
                if files[key] is not ABSENT:
                    break
        return Seen(hosts, files)

    def domains(self, hosts: Hosts, names: Collection[str]) -> Hosts:
        """These domains looked at again; the very same object if nothing changed."""
        changed = {
            name: host for name in names if (old := hosts.by_name.get(name)) and (host := self.host(old)) is not old
        }
        if not changed:
            return hosts
        by_name = {**hosts.by_name, **changed}
        return hosts._replace(by_name={name: host for name, host in by_name.items() if host is not None})

    def _with_folder(self, host: Host) -> Host:
        try:
            stamp = stamp_of(os.stat(self.folder / ADDRESSES / host.name))
        except OSError:
            lost = host.addresses is not None
            return host if host.lost == lost else replace(host, lost=lost)
        if host.addresses == stamp and not host.lost:
            return host
        return replace(host, addresses=stamp, lost=False)


def keys(host: Host | None, mailbox: Mailbox) -> Iterator[Mailbox]:
    """The exact names to try for a folded mailbox, best first; none where the domain cannot be asked."""
    if host is not None and host.domain is not None:
        for name, _ in host.domain.names(mailbox.localpart):
            yield mailbox if name == mailbox.localpart else Mailbox(name, mailbox.domain)


def _hosted_by(file: str) -> str | None:
    return None if is_leftover(file) else domain_name(Path(file))


def _kept(old: Hosts, text: str) -> Hosts:
    """The domains as they were, with what is wrong with their folder now."""
    error = ConfigError(DOMAINS, 0, "", text)
    return old if str(old.error) == str(error) else old._replace(error=error)


def _failed(old: Host, error: ConfigError) -> Host:
    """The domain as it was, with what is wrong now."""
    return old if old.stamp is None and str(old.error) == str(error) else replace(old, stamp=None, error=error)


def _settled(stamp: Stamp) -> Stamp | None:
    """No stamp for a file so new that a further change could leave the same one."""
    return stamp if time.time_ns() - stamp.mtime_ns > _RACY_NS else None


def _dangling(file: str) -> ConfigError:
    return ConfigError(file, 0, "", "is a link that leads nowhere, or its folder is gone")


def _unreadable(file: str, error: OSError) -> ConfigError:
    return ConfigError(file, 0, "", f"cannot be read: {error.strerror}")
