"""What `check` finds: in the files, in the plugins, and with --network at the targets' domains."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from forwarder.cli.errors import one_line
from forwarder.cli.folder import Folder
from forwarder.cli.output import print_json
from forwarder.config.accounts import compile_account
from forwarder.config.check import Finding, check
from forwarder.config.doors import Door, doors
from forwarder.config.lines import ConfigError, ConfigErrors, Document, read
from forwarder.config.names import account_file
from forwarder.config.settings import FILE, find_folder, load_settings
from forwarder.model import AUTO, IM2000, Endpoint
from forwarder.plugins import load


def findings(config: str | None, *, network: bool) -> list[Finding]:
    """All of them. Raises ConfigErrors only where there is no folder to check."""
    at = find_folder(config)
    try:
        settings = load_settings(at)
    except ConfigErrors:
        return check(at, load().strategies)
    folder = Folder(settings)
    problems = [Finding("error", f"plugin {each.plugin}", 0, "", each.text) for each in folder.plugins.problems]
    found = problems + check(at, folder.plugins.strategies, folder.carriers) + _doors(folder)
    if network:
        from forwarder.cli.asking import asked

        found += asked(folder)
    return found


def _doors(folder: Folder) -> list[Finding]:
    """What is wrong with the tables of services and carriers."""
    try:
        found = doors(folder.settings, folder.plugins.services, folder.plugins.carriers)
        document = read(folder.settings.folder / FILE, folder.settings.folder)
        lacking = dict.fromkeys(error for door in found.services for error in _accounts(folder, door, document))
        lacking |= dict.fromkeys(error for door in found.services for error in _not_hosted(folder, door, document))
        lacking |= dict.fromkeys(_ways(folder, {spec.name for spec, _ in found.carriers}, document))
        if lacking:
            raise ConfigErrors(lacking)
    except ConfigErrors as errors:
        return [Finding("error", e.file, e.line, e.key, e.text) for e in errors.errors]
    doubted = (error for door in found.services for error in _doubts(door, document))
    return list(dict.fromkeys(Finding("warning", e.file, e.line, e.key, e.text) for e in doubted))


def _doubts(door: Door, document: Document) -> Iterator[ConfigError]:
    """What works and is hardly meant; and doors whose guests are believed, that the world may come to."""
    for doubt in door.spec.doubts(door.options):
        yield document.error((door.spec.table, *doubt.key.split(".")), doubt.text)
    for place in door.places if door.spec.inner else ():
        if isinstance(place, Endpoint) and not _is_inside(ip_address(place.address)):
            text = f"{place}: whoever reaches it is believed, as Postfix is: the world's mail without a question"
            yield document.error(("listen", door.spec.name), text)


def _is_inside(address: IPv4Address | IPv6Address) -> bool:
    return address.is_private and not address.is_unspecified


def _ways(folder: Folder, carriers: Collection[str], document: Document) -> Iterator[ConfigError]:
    """Of the words of `[resolve.via]`: those that no carrier answers to, and those that nobody asks for."""
    for domain, word in folder.settings.resolve.via.items():
        if folder.addresses.hosted(domain):
            yield document.error(("resolve", "via", domain), "is hosted here: its mail never leaves by a carrier")
        elif word not in (AUTO, IM2000, *carriers):
            yield document.error(("resolve", "via", domain), f"no carrier {word} is configured")


def _not_hosted(folder: Folder, door: Door, document: Document) -> Iterator[ConfigError]:
    """Of the domains that a service has a word for: those that are not ours."""
    for key, domain in door.spec.domains(door.options).items():
        if not folder.addresses.hosted(domain):
            yield document.error((door.spec.table, *key), f"{domain} is not hosted here")


def _accounts(folder: Folder, door: Door, document: Document) -> Iterator[ConfigError]:
    """Of those that a service originates as: who is not there, or may not."""
    for key, name in door.spec.accounts(door.options, folder.addresses.domains).items():
        path = (door.spec.table, *key)
        try:
            account = compile_account(read(account_file(folder.settings.folder, name), folder.settings.folder))
        except OSError:
            text = f'there is no account "{name}": forwarder account add {name} --may originate'
            yield document.error(path, text)
        except ConfigErrors:  # told of its own file
            continue
        else:
            if account.state == "off" or "originate" not in account.may:
                text = f'the account "{name}" may not originate: forwarder account set {name} may=originate state=on'
                yield document.error(path, text)


def print_findings(found: Sequence[Finding], json: bool) -> None:
    if json:
        print_json([finding._asdict() for finding in found])
        return
    for finding in found:
        print(one_line(str(finding)), file=sys.stderr)
