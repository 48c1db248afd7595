"""Values to octets and back, by the ASN.1 of docs/protocol.md 4, which is read out of the document itself.

SEQUENCE: `Record` (a dict that keeps its octets), CHOICE: (arm, value), ENUMERATED: its name, SEQUENCE OF: list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import der
from .der import CONSTRUCTED, CONTEXT, Malformed, UnknownArm

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
UNIVERSAL = {"BOOLEAN": 1, "INTEGER": 2, "OCTETS": 4, "ENUMERATED": 10, "TEXT": 12, "SEQUENCE": 0x30, "OF": 0x30}


class Record(dict[str, Any]):
    """The elements of a SEQUENCE by name; `raw` is its content as it came."""

    raw: bytes = b""


@dataclass
class Kind:
    """One type of the module."""

    base: str
    members: list[tuple[str, int, Kind | str, bool]] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    of: Kind | str = ""
    low: int = 0
    high: int = 2**64 - 1


class Reader:
    """Reads the few forms of ASN.1 that the document uses."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"--[^\n]*", "", text)
        self.tokens = re.findall(r"\.\.\.|\.\.|::=|[A-Za-z][\w-]*|\d+|[{}()\[\],]", text)
        self.at = 0

    def next(self) -> str:
        self.at += 1
        return str(self.tokens[self.at - 1])

    def taken(self, *words: str) -> bool:
        if tuple(self.tokens[self.at : self.at + len(words)]) != words:
            return False
        self.at += len(words)
        return True

    def module(self) -> dict[str, Kind | str]:
        self.at = self.tokens.index("BEGIN") + 1
        types: dict[str, Kind | str] = {}
        while not self.taken("END"):
            name = self.next()
            assert self.taken("::="), f"{name} is followed by {self.next()}"
            types[name] = self.kind()
        return types

    def kind(self) -> Kind | str:
        if self.taken("SEQUENCE", "OF"):
            return Kind("OF", of=self.kind())
        if self.taken("OCTET", "STRING"):
            return self.bounded(Kind("OCTETS"))
        if self.taken("UTF8String"):
            return self.bounded(Kind("TEXT"))
        if self.taken("INTEGER"):
            return self.bounded(Kind("INTEGER"))
        if self.taken("BOOLEAN"):
            return Kind("BOOLEAN")
        if self.taken("ENUMERATED"):
            return Kind("ENUMERATED", values=self.numbers())
        word = self.next()
        return Kind(word, members=self.members()) if word in ("SEQUENCE", "CHOICE") else word

    def bounded(self, kind: Kind) -> Kind:
        sized = self.taken("(", "SIZE")
        if self.taken("("):
            kind.low = kind.high = int(self.next())
            if self.taken(".."):
                kind.high = int(self.next())
            assert self.taken(")")
        assert not sized or self.taken(")")
        return kind

    def numbers(self) -> dict[str, int]:
        assert self.taken("{")
        found: dict[str, int] = {}
        while not self.taken("}"):
            name = self.next()
            assert self.taken("(")
            found[name] = int(self.next())
            assert self.taken(")")
            self.taken(",")
        return found

    def members(self) -> list[tuple[str, int, Kind | str, bool]]:
        assert self.taken("{")
        found: list[tuple[str, int, Kind | str, bool]] = []
        while not self.taken("}"):
            if not self.taken("..."):
                name = self.next()
                assert self.taken("[")
                number = int(self.next())
                assert self.taken("]")
                kind = self.kind()
                found.append((name, number, kind, self.taken("OPTIONAL")))
            self.taken(",")
        return found


def _read_document() -> dict[str, Kind | str]:
    block = re.search(r"```asn1\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S)
    assert block, "the document has no module"
    return Reader(block[1]).module()


TYPES = _read_document()


def resolve(kind: Kind | str) -> Kind:
    while isinstance(kind, str):
        kind = TYPES[kind]
    return kind


def encode(kind: Kind | str, value: Any) -> bytes:
    """The value as one element, under its own tag; a CHOICE is its arm."""
    kind = resolve(kind)
    if kind.base == "CHOICE":
        return _arm(kind, *value)
    return der.element(UNIVERSAL[kind.base], content(kind, value))


def _arm(kind: Kind, arm: str, value: Any) -> bytes:
    for name, number, inner, _ in kind.members:
        if name == arm:
            return _tagged(number, inner, value)
    raise KeyError(arm)


def _tagged(number: int, kind: Kind | str, value: Any) -> bytes:
    """Implicit; around a CHOICE explicit."""
    kind = resolve(kind)
    if kind.base == "CHOICE":
        return der.element(CONTEXT | CONSTRUCTED | number, encode(kind, value))
    constructed = CONSTRUCTED if kind.base in ("SEQUENCE", "OF") else 0
    return der.element(CONTEXT | constructed | number, content(kind, value))


def content(kind: Kind | str, value: Any) -> bytes:
    kind = resolve(kind)
    match kind.base:
        case "BOOLEAN":
            return b"\xff" if value else b"\x00"
        case "INTEGER":
            return der.integer(value)
        case "OCTETS":
            return bytes(value)
        case "TEXT":
            return str(value).encode()
        case "ENUMERATED":
            return der.integer(kind.values[value])
        case "OF":
            return b"".join(encode(kind.of, item) for item in value)
        case _:
            return b"".join(_tagged(n, inner, value[name]) for name, n, inner, _ in kind.members if name in value)


def decode(kind: Kind | str, octets: bytes) -> Any:
    """The value of one whole element. Raises Malformed or UnknownArm."""
    der.check_sound(octets)
    return _value(resolve(kind), *der.only(octets))


def _value(kind: Kind, tag: int, body: bytes) -> Any:
    if kind.base == "CHOICE":
        return _choice(kind, tag, body)
    accepted = {UNIVERSAL[kind.base]} | ({0x16, 0x04} if kind.base == "TEXT" else set())
    if tag not in accepted:
        raise Malformed(f"tag {tag:02x} for {kind.base}")
    return _inside(kind, body)


def _choice(kind: Kind, tag: int, body: bytes) -> Any:
    if tag & der.CLASSES != CONTEXT:
        raise Malformed("an arm that is not of context class")
    for name, number, inner, _ in kind.members:
        if number == tag & 0x1F:
            return name, _untagged(resolve(inner), tag, body)
    raise UnknownArm(f"{tag:02x}")


def _untagged(kind: Kind, tag: int, body: bytes) -> Any:
    constructed = kind.base in ("CHOICE", "SEQUENCE", "OF")
    if bool(tag & CONSTRUCTED) != constructed:
        raise Malformed("primitive where constructed belongs, or the reverse")
    if kind.base == "CHOICE":
        return _choice(kind, *der.only(body))
    return _inside(kind, body)


def _inside(kind: Kind, body: bytes) -> Any:
    match kind.base:
        case "BOOLEAN":
            if body not in (b"\x00", b"\xff"):
                raise Malformed("a BOOLEAN is 00 or FF")
            return body == b"\xff"
        case "INTEGER":
            return _bounded(kind, der.read_integer(body), None)
        case "OCTETS":
            return _bounded(kind, len(body), body)
        case "TEXT":
            return _text(kind, body)
        case "ENUMERATED":
            names = {number: name for name, number in kind.values.items()}
            if (number := der.read_integer(body)) not in names:
                raise Malformed(f"no such value: {number}")
            return names[number]
        case "OF":
            return [_value(resolve(kind.of), *found) for found in der.elements(body)]
        case _:
            return _record(kind, body)


def _bounded(kind: Kind, measure: int, value: Any) -> Any:
    if not kind.low <= measure <= kind.high:
        raise Malformed(f"{measure} is out of range")
    return measure if value is None else value


def _text(kind: Kind, body: bytes) -> str:
    try:
        return str(_bounded(kind, len(body), body.decode()))
    except UnicodeDecodeError as wrong:
        raise Malformed("not UTF-8") from wrong


def _record(kind: Kind, body: bytes) -> Record:
    """Known elements in order, once; unknown ones anywhere, unread."""
    order = {number: at for at, (_, number, _, _) in enumerate(kind.members)}
    record, last = Record(), -1
    record.raw = body
    for tag, inner in der.elements(body):
        at = order.get(tag & 0x1F) if tag & der.CLASSES == CONTEXT else None
        if at is None:
            continue
        if at <= last:
            raise Malformed("out of order, or twice")
        name, _, member, _ = kind.members[at]
        record[name], last = _untagged(resolve(member), tag, inner), at
    for name, _, _, optional in kind.members:
        if not optional and name not in record:
            raise Malformed(f"{name} is not there")
    return record
