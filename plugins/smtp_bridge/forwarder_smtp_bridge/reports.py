"""Reports on what became of mail (RFC 3464), both ways.

What we write is 7 bits wide whatever it reports on: texts and header sections that are not are in quoted-printable, as
RFC 6522 allows, a recipient outside ASCII is `utf-8; \\x{E9}ric@..` (RFC 6533). Only To is raw if the sender himself
is outside ASCII; such mail needs SMTPUTF8 anyway. The sender of a report is null, always.

What we read is somebody else's: of its first 256 KiB one part counts, and whatever is odd makes it NotAReport.
"""

from __future__ import annotations

import binascii
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.message import Message
from email.parser import BytesHeaderParser, HeaderParser
from email.utils import format_datetime
from typing import Literal

from forwarder.model import Mailbox, parse_mailbox

LIMIT = 256 << 10
HEAD = 64 << 10
RECIPIENTS = 200
TEXT = 900
CONTENT_TYPE = 2000
_LINE = 998

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]

_ACTION = re.compile(r"(failed|delayed|delivered|relayed|expanded)\b", re.IGNORECASE)
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_COMMENT = re.compile(r"\s+\([^()]*\)\Z")
_EMPTY_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of one recipient. final: the address that failed; original: the one it was first sent to, or "".

    status: RFC 3463, "" where none was given. diagnostic: its type, ";", what was said ("smtp; 550 no such user").
    """

    final: str
    action: Action
    status: str
    diagnostic: str = ""
    original: str = ""

    def mailboxes(self) -> tuple[Mailbox, ...]:
        """Whom it may speak of, the original first: a forwarder after us may have put another in its place."""
        found: list[Mailbox] = []
        for text in (self.original, self.final):
            try:
                found.append(parse_mailbox(text))
            except ValueError:
                continue
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Report:
    """mta: who says so, "" where it does not."""

    mta: str
    recipients: tuple[Reported, ...]


@dataclass(frozen=True, slots=True)
class NotAReport:
    why: str


# -- written


def write_report(
    to: str, recipients: Sequence[Reported], head: bytes, *, mta: str, name: str, now: datetime, text: str = ""
) -> bytes:
    """A message for the sender `to`, to be sent with null sender. Lines end in CRLF.

    head: the header section of what is reported on, or its beginning; 64 KiB of it are shown. mta: our domain.
    name: of this report, the same if it is written again: its Message-ID. text: for people, before the recipients.
    """
    boundary = f"=_{secrets.token_hex(16)}"  # nobody can have written it into `head`
    failed = any(reported.action == "failed" for reported in recipients)
    fields = [
        f"From: Mail Delivery System <MAILER-DAEMON@{mta}>",
        f"To: <{_one_line(to)}>",
        f"Subject: {'Undelivered mail returned to sender' if failed else 'Delayed mail'}",
        f"Date: {format_datetime(now)}",
        f"Message-ID: <{name}.report@{mta}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f' boundary="{boundary}"',
        "",
    ]
    status = [f"Reporting-MTA: dns; {mta}", *(line for reported in recipients for line in _for_machines(reported))]
    parts = (
        _part("text/plain; charset=utf-8", [line.encode() for line in _for_people(recipients, mta, text)]),
        _part("message/delivery-status", [line.encode() for line in status]),
        _part("text/rfc822-headers", _section(head)),
    )
    delimiter = f"\r\n--{boundary}".encode()
    return "\r\n".join(fields).encode() + b"".join(delimiter + part for part in parts) + delimiter + b"--\r\n"


def _for_people(recipients: Sequence[Reported], mta: str, text: str) -> Iterator[str]:
    yield f"This is the mail system at {mta}. Your message did not reach:"
    yield ""
    for reported in recipients:
        said = reported.diagnostic.partition(";")[2] or reported.status
        yield from _folded(f"<{_one_line(reported.final)}>: {_one_line(said)[:TEXT]}", "    ")
    if text:
        yield ""
        yield from _folded(_one_line(text)[:TEXT], "")


def _for_machines(reported: Reported) -> Iterator[str]:
    yield ""
    if reported.original:
        yield f"Original-Recipient: {_typed(reported.original)}"
    yield f"Final-Recipient: {_typed(reported.final)}"
    yield f"Action: {reported.action}"
    yield f"Status: {reported.status}"
    if reported.diagnostic:
        yield from _folded(f"Diagnostic-Code: {_ascii(reported.diagnostic)}", "    ")


def _typed(address: str) -> str:
    address = _one_line(address)
    if address.isascii():
        return f"rfc822; {address}"
    return "utf-8; " + "".join(c if c.isascii() and c != "\\" else f"\\x{{{ord(c):X}}}" for c in address)


def _ascii(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in _one_line(text))[:TEXT]


def _one_line(text: str) -> str:
    return "".join(c if c >= " " and c not in "\x7f\x85\u2028\u2029" else " " for c in text)


def _folded(text: str, indent: str) -> Iterator[str]:
    """Lines of about 78 characters, cut at blanks alone."""
    line = ""
    for word in text.split():
        if line.strip() and len(line) + len(word) > 77:
            yield line
            line = indent + word
        else:
            line = f"{line} {word}" if line else word
    yield line


def _section(head: bytes) -> Sequence[bytes]:
    """The lines of the header section; the last one goes if it may be cut."""
    section = _EMPTY_LINE.split(head[:HEAD], maxsplit=1)[0]
    lines = section.splitlines()
    return lines[:-1] if len(section) == HEAD else lines


def _part(content_type: str, lines: Sequence[bytes]) -> bytes:
    """Ends without CRLF: that one is the delimiter's."""
    begin = f"\r\nContent-Type: {content_type}\r\n".encode()
    if all(line.isascii() and len(line) <= _LINE and b"\0" not in line for line in lines):
        return begin + b"\r\n" + b"\r\n".join(lines) + b"\r\n"
    encoded = binascii.b2a_qp(b"\n".join(lines) + b"\n", istext=True).replace(b"\n", b"\r\n")
    return begin + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded


# -- read


def read_report(octets: bytes) -> Report | NotAReport:
    """What a report says of each recipient. Of more than LIMIT octets only those count; the rest need not be given."""
    head, body = _parted(octets[:LIMIT].replace(b"\r\n", b"\n"))
    content_type = _content_type(head)
    if content_type is None or content_type.get_content_type() != "multipart/report":
        return NotAReport("no multipart/report")
    kind, boundary = content_type.get_param("report-type", "delivery-status"), content_type.get_boundary()
    if not isinstance(kind, str) or kind.lower() != "delivery-status" or not boundary:
        return NotAReport("a report of another kind")
    status = next((found for part in _parts(body, boundary) if (found := _status(part)) is not None), None)
    if status is None:
        return NotAReport("no delivery-status in it")
    recipients, mta = [], ""
    for block in re.split(r"\n[ \t]*(?=\n)", status, maxsplit=RECIPIENTS):
        fields = HeaderParser(policy=policy.compat32).parsestr(block.strip("\n"))
        mta = mta or _field(fields, "Reporting-MTA").partition(";")[2].strip()
        if reported := _reported(fields):
            recipients.append(reported)
    return Report(mta, tuple(recipients)) if recipients else NotAReport("no recipient in it")


def _parted(octets: bytes) -> tuple[bytes, bytes]:
    if octets.startswith(b"\n"):
        return b"", octets[1:]
    head, _, body = octets.partition(b"\n\n")
    return head + b"\n", body


def _content_type(head: bytes) -> Message | None:
    """The fields of a part, if its Content-Type is of a size that can be looked into."""
    if len(head) > HEAD:
        return None
    fields = BytesHeaderParser(policy=policy.compat32).parsebytes(head)
    return fields if len(str(fields.get("Content-Type", ""))) <= CONTENT_TYPE else None


def _parts(body: bytes, boundary: str) -> Iterator[bytes]:
    delimiter = re.compile(rb"^--" + re.escape(boundary.encode("utf-8", "surrogateescape")) + rb"(--)?[ \t]*$", re.M)
    begin: int | None = None
    for match in delimiter.finditer(body):
        if begin is not None:
            yield body[begin : match.start()]
        if match[1]:
            return
        begin = match.end() + 1
    if begin is not None:  # cut by us, or never ended
        yield body[begin:]


def _status(part: bytes) -> str | None:
    """The text of a part that is a delivery-status, decoded."""
    head, body = _parted(part)
    fields = _content_type(head)
    if fields is None or fields.get_content_type() not in ("message/delivery-status", "message/global-delivery-status"):
        return None
    encoding = str(fields.get("Content-Transfer-Encoding", "")).strip().lower()
    try:
        if encoding == "base64":
            body = binascii.a2b_base64(body)
        elif encoding == "quoted-printable":
            body = binascii.a2b_qp(body)
    except binascii.Error:
        return None
    return body.decode("utf-8", "replace").replace("\r\n", "\n")


def _reported(fields: Message) -> Reported | None:
    final, original = _address(_field(fields, "Final-Recipient")), _address(_field(fields, "Original-Recipient"))
    action = _ACTION.match(_field(fields, "Action"))
    if not action or not (final or original):
        return None
    status = _STATUS.search(_field(fields, "Status"))
    named: Action = action[1].lower()  # type: ignore[assignment]  # one of the five, by the pattern
    said = _field(fields, "Diagnostic-Code")
    return Reported(final or original, named, status[0] if status else "", said, original)


def _field(fields: Message, name: str) -> str:
    return " ".join(str(fields.get(name, "")).split())[:TEXT]


def _address(text: str) -> str:
    """The address of "rfc822; bob@isp.example", with what people put around it taken off."""
    kind, _, address = text.partition(";")
    address = _COMMENT.sub("", (address or kind).strip())
    if kind.strip().lower() == "utf-8":
        address = _EMBEDDED.sub(_embedded, address)
    return address.removeprefix("<").removesuffix(">").strip()


def _embedded(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else match[0]
