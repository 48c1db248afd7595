"""The node file, `forwarder.toml`: exactly the tables, keys and defaults of operator 4, frozen.

The folder is found by option, environment, /etc, then here; a folder anybody may write is refused, for whoever writes
it decides where mail goes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator

from forwarder.config.lines import ConfigError, ConfigErrors, read
from forwarder.config.names import ACCOUNTS, ADDRESSES, DOMAINS
from forwarder.config.tables import (
    DomainName,
    DomainOrAll,
    Door,
    Listener,
    Many,
    Nameserver,
    Network,
    Published,
    Table,
    UnixPath,
    validate,
)
from forwarder.model import Endpoint
from forwarder.plugin import Duration, Size
from forwarder.ports import ServiceName

FILE = "forwarder.toml"
ENVIRONMENT = "FORWARDER_CONFIG"
PARTS = (FILE, ADDRESSES, DOMAINS, ACCOUNTS, "keys")
TARGETS_MOST = 1000

Count = Annotated[int, Field(ge=0)]
Carrier = Literal["auto", "im2000", "smtp"]


class Node(Table):
    """Who we are. state: a folder, relative to the configuration folder."""

    name: DomainName
    state: str = "state"
    recheck: Duration = timedelta(seconds=1)
    drain: Duration = timedelta(seconds=15)


class Listen(Table):
    """Where each service listens; port 0 picks a free one. The `_tls` twins speak TLS from the first octet."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Many[Door]] = Field(init=False)

    rnasp: Many[Listener] = ()
    msrap: Many[Listener] = ()
    rnaqp: Many[Listener] = ()
    msoap: Many[Listener] = ()
    dns: Many[Listener] = ()
    rnasp_tls: Many[Listener] = ()
    msrap_tls: Many[Listener] = ()
    rnaqp_tls: Many[Listener] = ()
    msoap_tls: Many[Listener] = ()

    @property
    def doors(self) -> Mapping[str, tuple[Endpoint | UnixPath, ...]]:
        """Services of plugins, by name. Whether a plugin offers them is asked where the plugins are known."""
        return self.__pydantic_extra__


class Tls(Table):
    """A certificate for these domains. certificate, key: files, relative to the configuration folder."""

    domains: Many[DomainName] = ()
    certificate: str
    key: str


class Public(Table):
    """What the world is told where it differs from `[listen]`."""

    rnasp: Published | None = None
    msrap: Published | None = None
    rnaqp: Published | None = None
    msoap: Published | None = None
    dns: Published | None = None
    rnasp_tls: Published | None = None
    msrap_tls: Published | None = None
    rnaqp_tls: Published | None = None
    msoap_tls: Published | None = None


class Static(Table):
    """Where a domain's services are, asked before the DNS."""

    rnasp: Listener | None = None
    msrap: Listener | None = None
    rnaqp: Listener | None = None
    msoap: Listener | None = None
    rnasp_tls: Listener | None = None
    msrap_tls: Listener | None = None
    rnaqp_tls: Listener | None = None
    msoap_tls: Listener | None = None

    @property
    def places(self) -> Mapping[ServiceName, Endpoint]:
        """By label."""
        found: dict[ServiceName, Endpoint | None] = {
            "rnasp": self.rnasp,
            "msrap": self.msrap,
            "rnaqp": self.rnaqp,
            "msoap": self.msoap,
            "rnasps": self.rnasp_tls,
            "msraps": self.msrap_tls,
            "rnaqps": self.rnaqp_tls,
            "msoaps": self.msoap_tls,
        }
        return {label: place for label, place in found.items() if place is not None}


class Resolve(Table):
    """How domains are looked up. No nameservers: the system's. Zones: asked elsewhere."""

    nameservers: Many[Nameserver] = ()
    zones: dict[DomainName, Many[Nameserver]] = Field(default_factory=dict)
    static: dict[DomainName, Static] = Field(default_factory=dict)
    via: dict[DomainName, Carrier] = Field(default_factory=dict)


class Networking(Table):
    """Whom we connect to, whom we believe.

    require_tls, clear_fallback: domains with all below them, or "*"; where both fit, TLS is required. ca: a file of
    further authorities to believe, relative to the file that names it.
    """

    allow: Many[Network] = ()
    literals: bool = False
    clear_login: Many[Network] = ()
    trusted: Many[Network] = Field(default=("127.0.0.0/8", "::1/128"), validate_default=True)
    redirect_require_tls: bool = False
    require_tls: Many[DomainOrAll] = ()
    clear_fallback: Many[DomainOrAll] = ()
    ca: str = ""


class StoreTable(Table):
    """Our message store. quota: octets of an account, and of an address's copies.

    quota_per_store, quota_per_sender: of these copies, those from one store and one sender there; 0: no more limit.
    """

    lifetime: Duration = timedelta(days=30)
    max_size: Size = 200 << 20
    quota: Size = 1 << 30
    quota_per_store: Size = 768 << 20
    quota_per_sender: Size = 256 << 20


class TraceTable(Table):
    keep: Duration = timedelta(days=90)


class Retry(Table):
    """What is owed to a target: first wait, doubling to the longest, given up after."""

    first: Duration = timedelta(seconds=30)
    longest: Duration = timedelta(hours=24)
    give_up: Duration = timedelta(days=7)

    @model_validator(mode="after")
    def _in_order(self) -> Retry:
        if not timedelta(0) < self.first <= self.longest:
            raise ValueError("expected 0s < first <= longest")
        return self


class Limits(Table):
    """Counts, each all-or-nothing; 0 = none, but for depth and hops, which keep loops finite."""

    sessions: Count = 12000
    sessions_per_address: Count = 100
    submitter_rate: Count = 200
    targets: Annotated[int, Field(ge=0, le=TARGETS_MOST)] = 50
    depth: Annotated[int, Field(ge=1, le=100)] = 10
    hops: Annotated[int, Field(ge=1, le=100)] = 8
    waiting: Count = 10000
    waiting_per_sender: Count = 200
    per_sender_per_day: Count = 1000
    per_store_per_day: Count = 5000
    remembered: Count = 5_000_000


class Plugins(Table):
    """disable: plugins not to load. `[plugins.NAME]`: the table of a plugin, which checks it itself."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    disable: Many[str] = ()

    @model_validator(mode="after")
    def _tables(self) -> Plugins:
        for name, table in (self.model_extra or {}).items():
            if not isinstance(table, dict):
                raise ValueError(f'unknown key "{name}"; expected `disable` or the table of a plugin')
        return self

    def options(self, name: str) -> Mapping[str, Any]:
        """The table of a plugin, empty if there is none."""
        table: Mapping[str, Any] = (self.model_extra or {}).get(name, {})
        return table


class Bridge(Table):
    """Bridges to other mail: one table for all, each plugin reads it whole. group: owns the Unix sockets, mode 0660."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    group: str = ""


class Settings(Table):
    """The node file. `folder` is where it lies; `path` resolves what it names."""

    node: Node
    listen: Listen = Listen()
    tls: Many[Tls] = ()
    public: Public = Public()
    resolve: Resolve = Resolve()
    network: Networking = Networking()
    store: StoreTable = StoreTable()
    trace: TraceTable = TraceTable()
    retry: Retry = Retry()
    limits: Limits = Limits()
    plugins: Plugins = Plugins()
    bridge: Bridge = Bridge()

    _folder: Path = PrivateAttr(default=Path())

    @field_validator("tls", mode="before")
    @classmethod
    def _array(cls, value: object) -> object:
        if isinstance(value, dict):
            raise ValueError("expected [[tls]] with two brackets, one table for each certificate")
        return value

    @property
    def folder(self) -> Path:
        """The configuration folder, absolute."""
        return self._folder

    def path(self, name: str) -> Path:
        """A file or folder that the node file names: relative to the configuration folder."""
        return self._folder / name

    @property
    def state(self) -> Path:
        """The folder of the database and of message bodies."""
        return self.path(self.node.state)


def load_settings(folder: Path) -> Settings:
    """The node file of a configuration folder. Raises ConfigErrors with all that is wrong."""
    folder = folder.absolute()
    try:
        document = read(folder / FILE, folder)
    except FileNotFoundError:
        raise ConfigErrors([ConfigError(FILE, 0, "", f"is missing in {folder}; `forwarder init` makes one")]) from None
    except OSError as error:
        raise ConfigErrors([ConfigError(FILE, 0, "", f"cannot be read: {error.strerror}")]) from None
    settings = validate(Settings, document.data, document)
    settings._folder = folder
    return settings


def find_folder(option: str | None) -> Path:
    """`--config DIR`, else $FORWARDER_CONFIG, else /etc/forwarder, else ./config. Raises ConfigErrors."""
    asked = option or os.environ.get(ENVIRONMENT)
    places = [Path(asked)] if asked else [Path("/etc/forwarder"), Path("config")]
    for place in places:
        if (place / FILE).exists():
            return _unshared(place.absolute())
    if asked:
        said = "--config" if option else f"${ENVIRONMENT}"
        text = f"no {FILE} in this folder, named by {said}"
        if Path(asked).is_file():
            text = f"is a file, named by {said}; name the folder it lies in"
        raise ConfigErrors([ConfigError(asked, 0, "", text)])
    text = f"no configuration: neither --config nor ${ENVIRONMENT} is given and no {FILE} in /etc/forwarder or ./config"
    raise ConfigErrors([ConfigError(FILE, 0, "", text)])


def _unshared(folder: Path) -> Path:
    for part in (folder, *(folder / name for name in PARTS)):
        try:
            mode = part.stat().st_mode
        except OSError:  # not there, or told where it is read
            continue
        if mode & stat.S_IWOTH:
            text = f"is world-writable (mode {stat.S_IMODE(mode):04o}): anybody could redirect mail; chmod o-w it"
            raise ConfigErrors([ConfigError(str(part), 0, "", text)])
    return folder
