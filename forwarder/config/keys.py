"""The private keys our stores sign with: `keys/STORE/SELECTOR.toml` in the configuration folder, 0600, one file a key.

* Publish first, sign after: a key signs from the moment its file names, when its record has got about. The one before
  it signs until then, and stays published for GRACE more: what it signed may wait as long in somebody's inbox.
* A file removed is a key that signs no more and is published no more. One broken or open to others is told, never used.
* Files are read at the start and at `reload`. Without a key nothing is signed.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import PlainValidator

from forwarder.config.disk import locked, remove_file, write_new
from forwarder.config.lines import ConfigError, ConfigErrors, inside, read
from forwarder.config.tables import Table, validate
from forwarder.model import parse_domain
from forwarder.signature import KEY_OCTETS, SigningKey, key_name, key_record, new_private

KEYS = "keys"
GRACE = timedelta(days=35)
"""As long as an agent keeps what waits (protocol 5.1)."""
FILE_MODE = 0o600
KEYS_OF_A_STORE = 100

Use = Literal["published", "signs", "retired", "over"]
"""published: will sign. retired: signed, still published."""


class KeyFile(NamedTuple):
    """One key. signs: from when on."""

    store: str
    selector: str
    private: bytes
    made: datetime
    signs: datetime


class KeyState(NamedTuple):
    """What a key is for now, and until when: signs from, signs until the next does, published until."""

    key: KeyFile
    use: Use
    until: datetime | None


class TooSoon(Exception):  # an answer: not now
    """A new key has been published already and does not sign yet."""


def _private(value: object) -> bytes:
    try:
        octets = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if len(octets) != KEY_OCTETS:
        raise ValueError(f"expected {KEY_OCTETS} octets in base64")
    return octets


def _moment(value: object) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("expected a time such as 2026-12-31T12:00:00Z")
    return value.astimezone(UTC)


class _File(Table):
    private: Annotated[bytes, PlainValidator(_private)]
    made: Annotated[datetime, PlainValidator(_moment)]
    signs: Annotated[datetime, PlainValidator(_moment)]


class SigningKeys:
    """All keys of a configuration folder. `errors`: files that cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.errors: tuple[ConfigError, ...] = ()
        self._stores: Mapping[str, tuple[KeyFile, ...]] = {}
        self.reload()

    def reload(self) -> None:
        """Whatever is wrong is kept in `errors`."""
        errors: list[ConfigError] = []
        stores: dict[str, tuple[KeyFile, ...]] = {}
        for folder in _entries(self._folder / KEYS, self._folder, errors):
            try:
                store = parse_domain(folder.name)
            except ValueError as error:
                errors.append(ConfigError(inside(folder, self._folder), 0, "", str(error)))
                continue
            found = sorted(_read_all(self._folder, folder, store, errors), key=lambda key: (key.signs, key.made))
            stores[store] = tuple(found[-KEYS_OF_A_STORE:])
        self._stores, self.errors = stores, tuple(errors)

    @property
    def stores(self) -> Sequence[str]:
        return sorted(self._stores)

    def states(self, store: str, now: datetime) -> Sequence[KeyState]:
        """Of a store's keys, oldest first."""
        keys = self._stores.get(store, ())
        found = []
        for at, key in enumerate(keys):
            following = keys[at + 1].signs if at + 1 < len(keys) else None
            if key.signs > now:
                found.append(KeyState(key, "published", key.signs))
            elif following is None or following > now:
                found.append(KeyState(key, "signs", following))
            else:
                ends = following + GRACE
                found.append(KeyState(key, "retired" if ends > now else "over", ends))
        return found

    def signing(self, store: str, now: datetime) -> SigningKey | None:
        """The key that signs for a store now."""
        if store not in self._stores:
            return None
        using = (state.key for state in self.states(store, now) if state.use == "signs")
        return next((SigningKey(key.store, key.selector, key.private) for key in using), None)

    def records(self, store: str, now: datetime) -> Mapping[str, str]:
        """Full name to text of the TXT records of a store's keys."""
        kept = [state.key for state in self.states(store, now) if state.use != "over"]
        return {key_name(key.store, key.selector): key_record(key.private) for key in kept}

    def rotate(self, store: str, now: datetime, wait: timedelta) -> KeyFile:
        """A new key, published from now on, that signs after `wait`; keys that are over leave the disk.

        Raises TooSoon while an earlier one waits for that, Locked, OSError.
        """
        with locked(self._folder):
            self.reload()
            states = self.states(store, now)
            waiting = [state for state in states if state.use == "published"]
            if waiting:
                selector, signs = waiting[-1].key.selector, waiting[-1].key.signs
                raise TooSoon(f"{store}: the key {selector} is published and signs from {text_of(signs)}")
            key = KeyFile(store, self._selector(store, now), new_private(), now, now + wait)
            write_new(self._path(store, key.selector), _text(key), FILE_MODE)
            for state in states:
                if state.use == "over":
                    remove_file(self._path(store, state.key.selector))
        self.reload()
        return key

    def _selector(self, store: str, now: datetime) -> str:
        """Of the day; one more of the same day gets a number."""
        day, number = now.strftime("%Y%m%d"), 1
        selector = day
        while os.path.lexists(self._path(store, selector)):
            number += 1
            selector = f"{day}-{number}"
        return selector

    def _path(self, store: str, selector: str) -> Path:
        return self._folder / KEYS / store / f"{selector}.toml"


def text_of(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _entries(folder: Path, root: Path, errors: list[ConfigError]) -> list[Path]:
    """Without what editors leave. What is no folder, or cannot be read, is an error like others."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name[-1] not in "~#")
    except FileNotFoundError:
        return []
    except OSError as error:
        errors.append(ConfigError(inside(folder, root), 0, "", f"cannot be read: {error.strerror}"))
        return []


def _read_all(root: Path, folder: Path, store: str, errors: list[ConfigError]) -> Iterator[KeyFile]:
    for path in _entries(folder, root, errors):
        name = inside(path, root)
        try:
            if path.suffix != ".toml":
                raise ConfigErrors([ConfigError(name, 0, "", "is no key: expected SELECTOR.toml")])
            parse_domain(path.stem)
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise ConfigErrors([ConfigError(name, 0, "", "is open to others and not used: chmod 600")])
            document = read(path, root)
            said = validate(_File, document.data, document)
            yield KeyFile(store, path.stem.lower(), said.private, said.made, said.signs)
        except ConfigErrors as found:
            errors.extend(found.errors)
        except (OSError, ValueError) as error:
            errors.append(ConfigError(name, 0, "", f"cannot be read: {getattr(error, 'strerror', None) or error}"))


def _text(key: KeyFile) -> str:
    return (
        f"# Signs the notifications of {key.store}: who can read this can sign in its name.\n"
        f'private = "{base64.b64encode(key.private).decode()}"\n'
        f"made = {text_of(key.made)}\n"
        f"signs = {text_of(key.signs)} # from then on: its record must be in the DNS by then\n"
    )
