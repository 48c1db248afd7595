"""Every entry there is, one at a time: what a catalogue is made of. Lazy, so a million files need no memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from forwarder.config.domains import Domain, domain_name
from forwarder.config.entries import Specs
from forwarder.config.lines import ConfigError, ConfigErrors, inside, read_text
from forwarder.config.names import ADDRESSES, DOMAINS, localpart_of
from forwarder.config.reading import Hosts, Reader
from forwarder.config.settings import Settings
from forwarder.model import Mailbox, Route
from forwarder.ports import Unread


def sweep(folder: Path, settings: Settings, specs: Specs) -> Iterator[Route | ConfigError]:
    """All entries of the hosted domains: patterns and catch-alls, then address files; each mistake as an error.

    Blocking; files that come or go meanwhile may or may not be seen. Names no address can have are passed over.
    """
    reader = Reader(folder, settings, specs)
    hosts = reader.hosts(Hosts({}))
    if hosts.error is not None:
        yield hosts.error
    for host in hosts.by_name.values():
        if host.error is not None:
            yield host.error
        if host.domain is not None:
            yield from host.domain.entries()
            yield from sweep_domain(reader, host.domain)


def sweep_domain(reader: Reader, domain: Domain) -> Iterator[Route | ConfigError]:
    """The address files of one domain, in the order of the folder."""
    for path in address_paths(reader.folder / ADDRESSES / domain.name):
        localpart = localpart_of(path.name)
        if localpart is None:
            continue
        file = inside(path, reader.folder)
        try:
            yield reader.compile(read_text(path, file)[0], file, Mailbox(localpart, domain.name), domain)
        except FileNotFoundError:
            if path.is_symlink():
                yield ConfigError(file, 0, "", "is a link that leads nowhere")
        except OSError as error:
            yield ConfigError(file, 0, "", f"cannot be read: {error.strerror}")
        except ConfigErrors as found:
            yield from found.errors


def unread(error: ConfigError) -> Unread | None:
    """What a mistake that a sweep tells leaves unknown; None: no entry at all."""
    match PurePath(error.file).parts:
        case (top, domain, name) if top == ADDRESSES and (localpart := localpart_of(name)) is not None:
            return Unread(domain, localpart)
        case (top, name) if top == DOMAINS and (host := domain_name(Path(name))) is not None:
            return Unread(host)
        case (top,) if top == DOMAINS:
            return Unread()
        case _:
            return None


def address_paths(folder: Path) -> Iterator[Path]:
    """All names in a domain's folder of addresses; none where there is no such folder. Raises OSError otherwise."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield Path(entry.path)
    except FileNotFoundError:
        return
