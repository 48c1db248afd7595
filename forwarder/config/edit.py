"""What verbs do to the files: add, set, remove, off and on, for addresses, domains and accounts.

New files are written by tomli-w, edits of existing ones keep comments, order, mode and owner. The result is checked as
a look-up would check it before it counts: an edit that fails changes nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
import tomlkit
from pydantic import BaseModel

from forwarder.config.accounts import AccountTable, compile_account
from forwarder.config.assign import Assignment, BadAssignment, apply
from forwarder.config.disk import locked, remove_file, replace_file, write_new
from forwarder.config.domains import Domain, DomainTable, compile_domain, ties
from forwarder.config.entries import Core, Specs
from forwarder.config.lines import ConfigError, ConfigErrors, Document, inside, parse, read, read_text
from forwarder.config.names import account_file, address_file, domain_file
from forwarder.config.reading import Reader
from forwarder.config.settings import Settings
from forwarder.config.tables import is_account_name
from forwarder.model import Mailbox

Check = Callable[[Document], object]


class AlreadyThere(Exception):
    """`add` of what is there: its file."""


class NotThere(Exception):
    """`set`, `off`, `on` or `remove` of what is not there: its file."""


class Editor:
    """The files of one configuration folder. Every method raises ConfigErrors, BadAssignment, Locked, OSError.

    After a change tell the daemon: an address's own name, or a reload for domains.
    """

    def __init__(self, settings: Settings, specs: Specs) -> None:
        self._folder = settings.folder
        self._reader = Reader(settings.folder, settings, specs)
        self._limits = settings.limits
        self._specs = specs

    # -- addresses

    def add_address(self, mailbox: Mailbox, assignments: Sequence[Assignment]) -> Path:
        """A new address. Raises AlreadyThere."""
        return self._add(self._address(mailbox), assignments, self._entry_models(), self._entry_check(mailbox))

    def set_address(self, mailbox: Mailbox, assignments: Sequence[Assignment]) -> Path:
        """Changes of an address that is there. Raises NotThere."""
        return self._set(self._address(mailbox), assignments, self._entry_models(), self._entry_check(mailbox))

    def remove_address(self, mailbox: Mailbox) -> Path:
        """Raises NotThere."""
        return self._remove(self._address(mailbox))

    # -- domains

    def add_domain(self, domain: str, assignments: Sequence[Assignment]) -> Path:
        """A new hosted domain. Raises AlreadyThere."""
        return self._add(
            domain_file(self._folder, domain), assignments, self._domain_models(), self._domain_check(domain)
        )

    def set_domain(self, domain: str, assignments: Sequence[Assignment]) -> Path:
        """Raises NotThere."""
        return self._set(
            domain_file(self._folder, domain), assignments, self._domain_models(), self._domain_check(domain)
        )

    def remove_domain(self, domain: str) -> Path:
        """The domain is hosted no more; its addresses stay on the disk. Raises NotThere."""
        return self._remove(domain_file(self._folder, domain))

    # -- accounts

    def add_account(self, name: str, password_hash: str, assignments: Sequence[Assignment]) -> Path:
        """Raises AlreadyThere; BadAssignment if the name is none."""
        first = Assignment(("password",), "=", password_hash)
        return self._add(self._account(name), [first, *assignments], {"": AccountTable}, compile_account)

    def set_account(self, name: str, assignments: Sequence[Assignment]) -> Path:
        """Raises NotThere."""
        return self._set(self._account(name), assignments, {"": AccountTable}, compile_account)

    def remove_account(self, name: str) -> Path:
        """Raises NotThere."""
        return self._remove(self._account(name))

    # -- what all of them do

    def _add(
        self, path: Path, assignments: Sequence[Assignment], models: Mapping[str, type[BaseModel]], check: Check
    ) -> Path:
        table: dict[str, Any] = {}
        apply(table, assignments, models, dict)
        text = written(table)
        with locked(self._folder):
            if path.exists():
                raise AlreadyThere(inside(path, self._folder))
            check(parse(text, inside(path, self._folder)))
            write_new(path, text)
        return path

    def _set(
        self, path: Path, assignments: Sequence[Assignment], models: Mapping[str, type[BaseModel]], check: Check
    ) -> Path:
        file = inside(path, self._folder)
        with locked(self._folder):
            try:
                before, _ = read_text(path, file)
            except FileNotFoundError:
                raise NotThere(file) from None
            text = edited(before, assignments, models, file)
            check(parse(text, file))
            if text != before:
                replace_file(path, text)
        return path

    def _remove(self, path: Path) -> Path:
        with locked(self._folder):
            try:
                remove_file(path)
            except FileNotFoundError:
                raise NotThere(inside(path, self._folder)) from None
        return path

    def _address(self, mailbox: Mailbox) -> Path:
        path = address_file(self._folder, mailbox.folded)
        if path is None:
            raise BadAssignment(f"{mailbox} is too long for the name of a file")
        return path

    def _account(self, name: str) -> Path:
        if not is_account_name(name):
            raise BadAssignment(f"{name!r} is no account name: expected 1 to 64 of letters, digits and ._@+-")
        return account_file(self._folder, name)

    def _entry_models(self) -> dict[str, type[BaseModel]]:
        return {"": Core, **{name: spec.options for name, spec in self._specs.items()}}

    def _domain_models(self) -> dict[str, type[BaseModel]]:
        return {**self._entry_models(), "": DomainTable, "catch_all": Core, "defaults": Core}

    def _entry_check(self, mailbox: Mailbox) -> Check:
        folded = mailbox.folded
        return lambda document: self._reader.compile_document(document, folded, self._domain(folded.domain))

    def _domain_check(self, name: str) -> Check:
        def check(document: Document) -> None:
            found = list(ties(compile_domain(document, name, self._specs, self._limits)))
            if found:
                raise ConfigErrors(found)

        return check

    def _domain(self, name: str) -> Domain:
        path = domain_file(self._folder, name)
        try:
            return compile_domain(read(path, self._folder), name, self._specs, self._limits)
        except FileNotFoundError:
            text = f"is not hosted here; `forwarder domain add {name}` makes it so"
            raise ConfigErrors([ConfigError(name, 0, "", text)]) from None


def written(table: Mapping[str, Any]) -> str:
    """A new file's text. Raises BadAssignment for values nested too deep to be written."""
    try:
        return tomli_w.dumps(table)
    except RecursionError:
        raise BadAssignment("a value is nested too deep") from None


def edited(before: str, assignments: Sequence[Assignment], models: Mapping[str, type[BaseModel]], file: str) -> str:
    """The text after the assignments, comments and order kept. Raises BadAssignment, ConfigErrors."""
    expected = parse(before, file).data
    apply(expected, assignments, models, dict)
    # tomlkit keeps comments, tomllib says what a text means: both must agree, or the edit does not count
    try:
        document = tomlkit.parse(before)
        apply(document, assignments, models, tomlkit.table)
        text = tomlkit.dumps(document)
        agreed = _filled(tomllib.loads(text)) == _filled(expected)
    except Exception:  # it trips over some good texts, and over tables put into inline ones, in many ways
        agreed = False
    if not agreed:
        raise ConfigErrors([ConfigError(file, 0, "", "cannot be edited without harm; please edit it by hand")])
    return text


def _filled(value: Any) -> Any:
    """Without empty tables, which say nothing: a removal may leave one or not."""
    if not isinstance(value, dict):
        return value
    return {key: inner for key, inner in ((key, _filled(inner)) for key, inner in value.items()) if inner != {}}
