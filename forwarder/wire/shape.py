"""PDUs as tables: a type is how content octets become a value and back; a SEQUENCE is a table of tagged fields.

The tables of the protocols (elements.py, notification.py, rnasp.py ...) read as the module (im2000.asn1) does, and are
the only place where a tag stands. Laws (protocol 3.6): known elements in module order, each once, in their own form
(primitive or constructed); unknown tags skipped anywhere, never looked into; a CHOICE holds exactly one arm. The depth
is that of the tables (12 at most), since nothing recurses into what it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any, Generic, NamedTuple, TypeVar

from forwarder.wire import der
from forwarder.wire.der import MalformedPDU, header

T = TypeVar("T")
C = TypeVar("C")
R = TypeVar("R")

Decode = Callable[[bytes, int, int], Any]
Encode = Callable[[Any], bytes]

MEMO_COUNT = 8192
MEMO_OCTETS = 512


class Type(NamedTuple):
    """`tags`: the universal tags it is read under inside a SEQUENCE OF; the first is the one written."""

    decode: Decode
    encode: Encode
    constructed: bool = False
    tags: tuple[int, ...] = ()


class Memo(dict[bytes, T], Generic[T]):
    """Values by the octets of their content: what comes again is not decoded again (speed 6).

    Bounded: so many entries of at most so many octets each; when full it starts anew.
    """

    def __init__(
        self, decode: Callable[[bytes, int, int], T], count: int = MEMO_COUNT, octets: int = MEMO_OCTETS
    ) -> None:
        super().__init__()
        self._decode = decode
        self._count = count
        self._octets = octets

    def __missing__(self, content: bytes) -> T:
        value = self._decode(content, 0, len(content))
        if len(content) <= self._octets:
            if len(self) >= self._count:
                self.clear()
            self[content] = value
        return value

    def read(self, octets: bytes, pos: int, end: int) -> T:
        return self[octets[pos:end]]


def memo(kind: Type) -> Type:
    """The same type, its values remembered by their octets."""
    return kind._replace(decode=Memo(kind.decode).read)


def integer(low: int, high: int) -> Type:
    def decode(octets: bytes, pos: int, end: int) -> int:
        value = der.read_integer(octets, pos, end)
        if not low <= value <= high:
            raise MalformedPDU("an INTEGER out of range")
        return value

    def encode(value: int) -> bytes:
        if not low <= value <= high:
            raise ValueError(f"{value} is outside {low}..{high}")
        return der.write_integer(value)

    return Type(decode, encode, tags=(der.INTEGER,))


def enumerated(values: type[IntEnum], read_as: Mapping[int, int] | None = None) -> Type:
    """`read_as`: a value of the wire that is another value to us, in both directions."""
    known = {int(value): value for value in values}
    known.update({number: known[other] for number, other in (read_as or {}).items()})

    def decode(octets: bytes, pos: int, end: int) -> IntEnum:
        value = known.get(der.read_integer(octets, pos, end))
        if value is None:
            raise MalformedPDU("an ENUMERATED value that is not in the protocol")
        return value

    def encode(value: int) -> bytes:
        return der.write_integer(known[value])

    return Type(decode, encode, tags=(der.ENUMERATED,))


def octet_string(low: int = 0, high: int | None = None) -> Type:
    def decode(octets: bytes, pos: int, end: int) -> bytes:
        size = end - pos
        if size < low or (high is not None and size > high):
            raise MalformedPDU("an OCTET STRING of a wrong size")
        return octets[pos:end]

    def encode(value: bytes) -> bytes:
        if len(value) < low or (high is not None and len(value) > high):
            raise ValueError(f"{len(value)} octets are outside {low}..{high}")
        return bytes(value)

    return Type(decode, encode, tags=(der.OCTET_STRING,))


def text(low: int = 0, high: int | None = None, also: tuple[int, ...] = ()) -> Type:
    """A UTF8String of `low` to `high` octets. `also`: more tags it may have inside a SEQUENCE OF."""

    def decode(octets: bytes, pos: int, end: int) -> str:
        size = end - pos
        if size < low or (high is not None and size > high):
            raise MalformedPDU("a text of a wrong size")
        return der.read_text(octets, pos, end)

    def encode(value: str) -> bytes:
        content = value.encode("utf-8")
        if len(content) < low or (high is not None and len(content) > high):
            raise ValueError(f"{len(content)} octets of text are outside {low}..{high}")
        return content

    return Type(decode, encode, tags=(der.UTF8_STRING, der.IA5_STRING, *also))


BOOLEAN = Type(der.read_boolean, der.write_boolean, tags=(der.BOOLEAN,))


def sequence_of(kind: Type, most: int) -> Type:
    """SEQUENCE OF, read as a tuple. More than `most` elements, or one of another type, is malformed."""
    tags, read, write = kind.tags, kind.decode, kind.encode

    def decode(octets: bytes, pos: int, end: int) -> tuple[Any, ...]:
        values = []
        while pos < end:
            if octets[pos] not in tags:
                raise MalformedPDU("an element of another type inside a SEQUENCE OF")
            body, pos = header(octets, pos, end)
            values.append(read(octets, body, pos))
            if len(values) > most:
                raise MalformedPDU("too many elements in a SEQUENCE OF")
        return tuple(values)

    def encode(values: Iterable[Any]) -> bytes:
        return b"".join([der.tlv(tags[0], write(value)) for value in values])

    return Type(decode, encode, constructed=True, tags=(der.SEQUENCE,))


class _Missing:
    """No default: the element is mandatory."""


MISSING = _Missing()


class Field(NamedTuple):
    """[number] kind; absent = `default`, which is not written either."""

    number: int
    kind: Type
    default: Any = MISSING

    @property
    def tag(self) -> int:
        return der.CONTEXT | (der.CONSTRUCTED if self.kind.constructed else 0) | self.number


class Sequence:
    """A SEQUENCE whose fields are, in order, the arguments of `make` and the items of the tuple it makes.

    `twin`: the number of a field whose second appearance is read as the next field (gap 7).
    """

    __slots__ = ("_defaults", "_fields", "_make", "_mandatory", "_slots", "_twins", "numbers")

    def __init__(self, make: Callable[..., Any], *fields: Field, twin: int | None = None) -> None:
        self._make = make
        self._fields = [(field.tag, field.kind.encode, field.default) for field in fields]
        self._defaults = [field.default for field in fields]
        self._mandatory = [i for i, field in enumerate(fields) if field.default is MISSING]
        self._slots: dict[int, tuple[int, Decode]] = {
            field.tag: (i, field.kind.decode) for i, field in enumerate(fields)
        }
        self._twins = {
            field.tag: (i + 1, fields[i + 1].kind.decode) for i, field in enumerate(fields) if field.number == twin
        }
        self.numbers = {field.tag: field.number for field in fields}

    @property
    def type(self) -> Type:
        return Type(self.decode, self.encode, constructed=True, tags=(der.SEQUENCE,))

    def blank(self) -> list[Any]:
        """Room for the values, for `walk`."""
        return self._defaults.copy()

    def walk(self, octets: bytes, pos: int, end: int, values: list[Any], last: int = -1) -> None:
        """Put the elements of the range into `values`; those up to index `last` have been read already."""
        slots = self._slots
        while pos < end:
            tag = octets[pos]
            stop = octets[pos + 1]
            if stop < 0x80:
                body = pos + 2
                stop += body
                if stop > end:
                    raise MalformedPDU("an element reaches past its parent")
            else:
                body, stop = header(octets, pos, end)
            slot = slots.get(tag)
            if slot is None:
                self._skip(tag)
            else:
                index, decode = slot
                if index <= last:
                    index, decode = self._again(tag, last)
                values[index] = decode(octets, body, stop)
                last = index
            pos = stop
        for index in self._mandatory:
            if values[index] is MISSING:
                raise MalformedPDU("a mandatory element is missing")

    def _skip(self, tag: int) -> None:
        der.check_tag(tag)
        if tag ^ der.CONSTRUCTED in self._slots:
            raise MalformedPDU("an element in the wrong form, primitive or constructed")

    def _again(self, tag: int, last: int) -> tuple[int, Decode]:
        twin = self._twins.get(tag)
        if twin is None or twin[0] <= last:
            raise MalformedPDU("an element twice, or out of order")
        return twin

    def decode(self, octets: bytes, pos: int, end: int) -> Any:
        values = self._defaults.copy()
        self.walk(octets, pos, end, values)
        return self._make(*values)

    def encode(self, value: Iterable[Any]) -> bytes:
        parts = []
        for (tag, write, default), item in zip(self._fields, value, strict=True):
            if default is MISSING or not (item is None or item == default):
                parts.append(der.tlv(tag, write(item)))
        return b"".join(parts)


UNKNOWN_ARM = object()
"""A CHOICE of a newer protocol: good DER, but no alternative of ours."""


class Arm(NamedTuple):
    """[number] `made`: the class of the values of this alternative."""

    number: int
    made: type
    kind: Type


class Choice:
    """A CHOICE, always EXPLICIT here (gap 2): its content is the one element of the arm taken."""

    __slots__ = ("_by_class", "_by_tag")

    def __init__(self, *arms: Arm) -> None:
        tags = [Field(arm.number, arm.kind).tag for arm in arms]
        self._by_tag = {tag: arm.kind.decode for tag, arm in zip(tags, arms, strict=True)}
        self._by_class = {arm.made: (tag, arm.kind.encode) for tag, arm in zip(tags, arms, strict=True)}

    @property
    def type(self) -> Type:
        return Type(self.decode, self.encode, constructed=True)

    def decode(self, octets: bytes, pos: int, end: int) -> Any:
        """The arm's value, or UNKNOWN_ARM."""
        tag = octets[pos]
        body, stop = header(octets, pos, end)
        if stop != end:
            raise MalformedPDU("a CHOICE of more than one element")
        decode = self._by_tag.get(tag)
        if decode is not None:
            return decode(octets, body, stop)
        der.check_tag(tag)
        if tag & der.CLASS != der.CONTEXT or tag ^ der.CONSTRUCTED in self._by_tag:
            raise MalformedPDU("a CHOICE of a wrong tag")
        return UNKNOWN_ARM

    def encode(self, value: Any) -> bytes:
        tag, write = self._by_class[type(value)]
        return der.tlv(tag, write(value))


def one(value: Any) -> Any:
    """The `make` of a SEQUENCE of one field that is but a wrapping."""
    return value


COMMAND, RESPONSE = 0xA1, 0xA2


class PDUs(Generic[C, R]):
    """The two sides of a protocol: [1] command {commanddata}, [2] response {forceabort, status, responsedata}.

    What is decoded raises MalformedPDU, and nothing else, whatever `pdu` is.
    """

    __slots__ = ("_command", "_outer", "_response")

    def __init__(self, command: Choice, status: Type, response: Choice, made: Callable[..., R]) -> None:
        self._command = Sequence(one, Field(0, command.type))
        self._response = Sequence(made, Field(0, BOOLEAN), Field(1, status), Field(2, response.type))
        self._outer = {COMMAND: "command", RESPONSE: "response"}

    def decode_command(self, pdu: bytes) -> C:
        """The value of the arm."""
        side, command = self._decode(pdu)
        if side != "command" or command is UNKNOWN_ARM:
            raise MalformedPDU("a PDU that is no command of this protocol", unexpected=True)
        made: C = command
        return made

    def decode_response(self, pdu: bytes) -> R:
        side, response = self._decode(pdu)
        if side != "response" or response[2] is UNKNOWN_ARM:
            raise MalformedPDU("a PDU that is no response of this protocol", unexpected=True)
        made: R = response
        return made

    def encode_command(self, command: C) -> bytes:
        return der.tlv(COMMAND, self._command.encode((command,)))

    def encode_response(self, response: Any) -> bytes:
        return der.tlv(RESPONSE, self._response.encode(response))

    def _decode(self, pdu: bytes) -> tuple[str, Any]:
        try:
            body, stop = header(pdu, 0, len(pdu))
            if stop != len(pdu):
                raise MalformedPDU("octets after the PDU")
            return self._side(pdu, body, stop)
        except IndexError:
            raise MalformedPDU("a PDU that ends too soon") from None

    def _side(self, pdu: bytes, body: int, stop: int) -> tuple[str, Any]:
        side = self._outer.get(pdu[0], "")
        if side == "command":
            return side, self._command.decode(pdu, body, stop)
        if side == "response":
            return side, self._response.decode(pdu, body, stop)
        der.check_tag(pdu[0])
        if pdu[0] & der.CLASS != der.CONTEXT or pdu[0] ^ der.CONSTRUCTED in self._outer:
            raise MalformedPDU("a PDU of a wrong tag")
        return side, UNKNOWN_ARM
