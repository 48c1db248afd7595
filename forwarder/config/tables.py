"""Tables of a TOML file as frozen pydantic models, and pydantic's complaints in an operator's words.

Every complaint says what is wrong and what was expected; an unknown word brings the nearest known one.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from forwarder.config.lines import ConfigErrors, Document
from forwarder.model import Endpoint, Mailbox, parse_domain, parse_mailbox

DNS_PORT = 53
UNIX = "unix:"

_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}\Z")


class Table(BaseModel):
    """A table of ours: strict types, no unknown keys, frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)


M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class HostPort(NamedTuple):
    """A host by name or address, and a port: what the world is told."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UnixPath(NamedTuple):
    """A Unix socket, by its absolute path."""

    path: str

    def __str__(self) -> str:
        return f"{UNIX}{self.path}"


def is_account_name(text: str) -> bool:
    """1 to 64 of letters, digits and `._@+-`, not beginning with a mark: it is a file name as it stands."""
    return _ACCOUNT.match(text) is not None


def parse_host_port(value: object) -> HostPort:
    """`HOST:PORT` or `[v6]:PORT`. Raises ValueError."""
    if isinstance(value, HostPort):
        return value
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError(f'expected "HOST:PORT" or "[IPv6]:PORT", found {value!r}')
    if host.startswith("[") and host.endswith("]"):
        return HostPort(str(ipaddress.IPv6Address(host[1:-1])), int(port))
    if ":" in host:
        raise ValueError(f'expected "[IPv6]:PORT", found {value!r}')
    try:
        return HostPort(str(ipaddress.IPv4Address(host)), int(port))
    except ValueError:
        return HostPort(parse_domain(host), int(port))


def parse_endpoint(value: object) -> Endpoint:
    """`ADDRESS:PORT`, the address an IP address. Raises ValueError."""
    if isinstance(value, Endpoint):
        return value
    host, port = parse_host_port(value)
    try:
        return Endpoint(str(ipaddress.ip_address(host)), port)
    except ValueError:
        raise ValueError(f'expected an IP address and a port such as "127.0.0.1:7101", found {value!r}') from None


def parse_door(value: object) -> Endpoint | UnixPath:
    """`ADDRESS:PORT`, or `unix:PATH`. Raises ValueError."""
    if isinstance(value, UnixPath):
        return value
    if isinstance(value, str) and value.startswith(UNIX):
        if not value.removeprefix(UNIX).startswith("/") or value.endswith("/") or not value.isprintable():
            raise ValueError(f'expected an absolute path such as "unix:/run/forwarder/lmtp", found {value!r}')
        return UnixPath(value.removeprefix(UNIX))
    return parse_endpoint(value)


def parse_nameserver(value: object) -> Endpoint:
    """`ADDRESS` or `ADDRESS:PORT`, port 53 where none is given. Raises ValueError."""
    try:
        return Endpoint(str(ipaddress.ip_address(value)), DNS_PORT) if isinstance(value, str) else parse_endpoint(value)
    except ValueError:
        return parse_endpoint(value)


def _network(value: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f'expected a network such as "10.0.0.0/8", found {value!r}')
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f'{error}; expected a network such as "10.0.0.0/8"') from None


def _mailbox(value: object) -> Mailbox:
    if isinstance(value, Mailbox):
        return value
    if not isinstance(value, str):
        raise ValueError(f'expected an address such as "brian@isp.example", found {value!r}')
    return parse_mailbox(value)


def _domain(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f'expected a domain name such as "pobox.example", found {value!r}')
    return parse_domain(value)


def _domain_or_all(value: object) -> str:
    return "*" if value == "*" else _domain(value)


def _account(value: object) -> str:
    if not isinstance(value, str) or not is_account_name(value):
        raise ValueError(f"{value!r} is no account name: expected 1 to 64 of letters, digits and ._@+-")
    return value


# Strictness would refuse TOML's lists for tuples; named tuples know no strictness at all.
Address = Annotated[Mailbox, PlainValidator(_mailbox)]
DomainName = Annotated[str, PlainValidator(_domain)]
DomainOrAll = Annotated[str, PlainValidator(_domain_or_all)]
AccountName = Annotated[str, PlainValidator(_account)]
Listener = Annotated[Endpoint, PlainValidator(parse_endpoint)]
Door = Annotated[Endpoint | UnixPath, PlainValidator(parse_door)]
Nameserver = Annotated[Endpoint, PlainValidator(parse_nameserver)]
Published = Annotated[HostPort, PlainValidator(parse_host_port)]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, PlainValidator(_network)]
Many = Annotated[tuple[T, ...], Field(strict=False)]


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?`, or the words there are, or nothing."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, 1, 0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known: {', '.join(words)}" if words else ""


def complaints(model: type[BaseModel], error: ValidationError) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(path, text) of each mistake pydantic found."""
    seen: set[tuple[str | int, ...]] = set()
    for found in error.errors(include_url=False):
        path = _written(found["loc"])
        if path not in seen:
            seen.add(path)
            yield path, _told(model, path, found)


def validate(model: type[M], value: Mapping[str, Any], document: Document, at: Sequence[str | int] = ()) -> M:
    """A table of a document as its model. Raises ConfigErrors, all of them."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigErrors(document.error((*at, *path), text) for path, text in complaints(model, error)) from None


def _written(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The path without what pydantic adds for itself: union arms and the mark of a dictionary's key."""
    steps = [step for step in path if not (isinstance(step, str) and (step == "[key]" or _ARM.match(step)))]
    return tuple(steps)


_ARM = re.compile(
    r"(?:str|bool|int|dict|tuple|list|function-|is-instance|json-or-python|literal|lax-or-strict)\b.*[\[\]]"
)

_EXPECTED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "mapping_type": "a table",
}


def _told(model: type[BaseModel], path: tuple[str | int, ...], found: Any) -> str:
    kind, value = found["type"], found["input"]
    if kind == "extra_forbidden":
        return f"unknown key{nearest(str(path[-1]), _known(model, path[:-1]))}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(found["ctx"]["error"])
    if kind == "literal_error":
        words = [word.strip("'") for word in re.split(", | or ", found["ctx"]["expected"])]
        hint = nearest(value, words) if isinstance(value, str) else ""
        quoted = ", ".join(f'"{word}"' for word in words)
        return f"expected one of {quoted}, found {_shown(value)}{hint if 'mean' in hint else ''}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {_shown(value)}"
    said = found["msg"].removeprefix("Input should be ").removeprefix("Value should have ")
    return f"expected {said[0].lower()}{said[1:]}, found {_shown(value)}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _known(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that a table at this path may have."""
    for step in path:
        field = model.model_fields.get(step) if isinstance(step, str) else None
        if field is not None:
            models = list(models_in(field.annotation))
            if not models:
                return []
            model = models[0]
    return list(model.model_fields)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models an annotation speaks of, however wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)
