"""me.toml: who I am at my store, my agents and my lists (operator 3). `[resolve]` and `[network]` as in the node file.

Passwords lie in files of their own and are read when a session logs in.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from forwarder.config.lines import ConfigError, ConfigErrors, read
from forwarder.config.settings import ENVIRONMENT, Networking, Resolve, find_folder, load_settings
from forwarder.config.tables import AccountName, DomainName, HostPort, Many, Published, Table, validate


class Where(NamedTuple):
    """A service of mine. tls: the server must prove `name`."""

    place: HostPort
    tls: bool
    name: str

    def __str__(self) -> str:
        return str(self.place)


class _Mine(Table):
    """A service of mine, in clear or over TLS; where both are given, over TLS. server: what its certificate names,
    where that is not the host."""

    server: DomainName | None = None

    def _where(self, clear: HostPort | None, tls: HostPort | None) -> Where:
        place = tls or clear
        assert place is not None
        return Where(place, tls is not None, self.server or place.host)


def _one_of(clear: object, tls: object, name: str) -> None:
    if clear is None and tls is None:
        raise ValueError(f'expected {name} = "HOST:PORT" or {name}_tls = "HOST:PORT"')


class StoreAccount(_Mine):
    """`[store]`: where I originate."""

    msoap: Published | None = None
    msoap_tls: Published | None = None
    account: AccountName
    password_file: str

    @model_validator(mode="after")
    def _somewhere(self) -> StoreAccount:
        _one_of(self.msoap, self.msoap_tls, "msoap")
        return self

    @property
    def where(self) -> Where:
        return self._where(self.msoap, self.msoap_tls)


class AgentAccount(_Mine):
    """`[[agent]]`: an agent that keeps my notifications."""

    rnaqp: Published | None = None
    rnaqp_tls: Published | None = None
    account: AccountName
    password_file: str

    @model_validator(mode="after")
    def _somewhere(self) -> AgentAccount:
        _one_of(self.rnaqp, self.rnaqp_tls, "rnaqp")
        return self

    @property
    def where(self) -> Where:
        return self._where(self.rnaqp, self.rnaqp_tls)

    @property
    def name(self) -> str:
        """What the notebook calls this agent; the same when TLS is added beside."""
        return f"{self.account} at {self.rnaqp or self.rnaqp_tls}"


class ListAccount(_Mine):
    """`[[list]]`: a pull_hold address I may read: by its own name with an account, by its unguessable name without."""

    msrap: Published | None = None
    msrap_tls: Published | None = None
    name: Annotated[str, Field(min_length=1, max_length=255)]
    account: AccountName | None = None
    password_file: str | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> ListAccount:
        if (self.account is None) != (self.password_file is None):
            raise ValueError("account and password_file go together")
        _one_of(self.msrap, self.msrap_tls, "msrap")
        return self

    @property
    def where(self) -> Where:
        return self._where(self.msrap, self.msrap_tls)


Login = StoreAccount | AgentAccount | ListAccount


class _File(Table):
    store: StoreAccount | None = None
    agent: Many[AgentAccount] = ()
    list: Many[ListAccount] = ()
    resolve: Resolve | None = None
    network: Networking | None = None


@dataclass(frozen=True, slots=True)
class Me:
    """me.toml, read. notebook: where what it must remember lies. ca: `[network] ca`."""

    file: Path
    notebook: Path
    store: StoreAccount | None
    agents: tuple[AgentAccount, ...]
    lists: tuple[ListAccount, ...]
    resolve: Resolve
    network: Networking
    ca: Path | None = None

    def list_named(self, name: str) -> ListAccount | None:
        return next((entry for entry in self.lists if entry.name == name), None)

    def password(self, login: Login) -> str:
        """The first line of its password file. Raises ConfigErrors."""
        path = Path(login.password_file or "").expanduser()
        path = self.file.parent / path
        try:
            first = path.read_text(encoding="utf-8").partition("\n")[0].removesuffix("\r")
        except OSError as error:
            raise _wrong(path, f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise _wrong(path, "is not UTF-8") from None
        if not first:
            raise _wrong(path, "has no password in its first line")
        return first


def load(option: str | None, config: str | None) -> Me:
    """me.toml by `--me`, else the usual one; what it does not say of the network, the node file says.

    Raises ConfigErrors.
    """
    path = (Path(option).expanduser() if option else default_file()).absolute()
    try:
        document = read(path, Path.cwd())
    except OSError as error:
        hint = "" if option else "; it names your store and your agents, see `forwarder read --help`"
        raise _wrong(path, f"cannot be read: {error.strerror}{hint}") from None
    said = validate(_File, document.data, document)
    resolve, network, folder = said.resolve, said.network, path.parent
    if resolve is None or network is None:
        there = _node_file(config)
        folder = folder if network else there[2]
        resolve, network = resolve or there[0], network or there[1]
    ca = folder / network.ca if network.ca else None
    return Me(path, notebook_file(path if option else None), said.store, said.agent, said.list, resolve, network, ca)


def default_file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "forwarder" / "me.toml"


def notebook_file(me: Path | None) -> Path:
    """`~/.local/share/forwarder/reader.db`; for another me.toml one of its own beside it, named by the file's path."""
    folder = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "forwarder"
    if me is None:
        return folder / "reader.db"
    return folder / f"reader-{hashlib.sha256(bytes(me)).hexdigest()[:12]}.db"


def _node_file(config: str | None) -> tuple[Resolve, Networking, Path]:
    """Of the node file found by --config; where there is none, the system's resolver and nothing allowed."""
    try:
        folder = find_folder(config)
    except ConfigErrors:
        if config or os.environ.get(ENVIRONMENT):
            raise
        return Resolve(), Networking(), Path()
    settings = load_settings(folder)
    return settings.resolve, settings.network, settings.folder


def _wrong(path: Path, text: str) -> ConfigErrors:
    return ConfigErrors([ConfigError(str(path), 0, "", text)])
