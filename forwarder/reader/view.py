"""A message as a MIME viewer shows it: headers, the text parts decoded, the attachments by name and size.

Octets come from strangers: whatever they hold, something is shown; control characters never reach a terminal.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import policy
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser, HeaderParser
from typing import Any

SHOWN = ("From", "Sender", "Reply-To", "To", "Cc", "Date", "Subject", "Message-ID")
WANTED = ("Date", "Message-ID", "From")
"""What a message should have, and `send` does not invent."""
PARTS = 1000
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)[^<>]*>|<![^<>]*>")
_SPACE = re.compile(r"\s+")
_BLOCKS = frozenset({"p", "br", "div", "tr", "li", "h1", "h2", "h3", "h4", "table", "ul", "ol", "blockquote"})
_HIDDEN = frozenset({"script", "style", "head", "title"})
_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is not shown as text. size: octets, decoded."""

    name: str
    type: str
    size: int
    content: bytes


@dataclass(frozen=True, slots=True)
class View:
    """A message for a person."""

    headers: tuple[tuple[str, str], ...]
    text: str
    attachments: tuple[Attachment, ...]

    def header(self, name: str) -> str:
        return next((value for found, value in self.headers if found.lower() == name.lower()), "")


def view(octets: bytes) -> View:
    """Never raises for what the octets hold."""
    message = _parsed(octets)
    texts, attachments = [], []
    for number, part in enumerate(_leaves(message), 1):
        content = _content(part)
        name = _name(part)
        if _is_text(part) and not name:
            texts.append(_text(part, content))
        else:
            name = name or f"part-{number}"
            attachments.append(Attachment(name, part.get_content_type(), len(content), content))
    headers = tuple((name, clean(_decoded(value)).replace("\n", " ")) for name, value in message.items())
    return View(headers, "\n".join(texts), tuple(attachments))


def _parsed(octets: bytes) -> Message[Any, Any]:
    """With its parts; nested too deep for the parser, as one part that can only be saved."""
    parser = BytesParser(policy=policy.compat32)
    try:
        return parser.parsebytes(octets)
    except RecursionError:
        return parser.parsebytes(octets, headersonly=True)


def missing_headers(octets: bytes) -> list[str]:
    """Of WANTED, those that the message does not have."""
    head = HeaderParser(policy=policy.compat32).parsestr(octets[: 1 << 20].decode("latin-1"), headersonly=True)
    return [name for name in WANTED if not head[name]]


def subject_of(octets: bytes) -> str:
    head = BytesParser(policy=policy.compat32).parsebytes(octets[: 1 << 20], headersonly=True)
    return clean(_decoded(head["Subject"] or "")).replace("\n", " ")


def clean(text: str) -> str:
    """Without what could move a cursor or turn the direction of writing. Tabs and line ends stay."""
    return _UNFIT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _leaves(message: Message[Any, Any]) -> Iterator[Message[Any, Any]]:
    """The parts in order; of alternatives the plain text, else the last; at most PARTS."""
    stack, given = [message], 0
    while stack and given < PARTS:
        part = stack.pop()
        payload = part.get_payload() if part.is_multipart() else None
        inner = [each for each in payload if isinstance(each, Message)] if isinstance(payload, list) else []
        if not inner or part.get_content_maintype() == "message":
            given += 1
            yield part
        elif part.get_content_subtype() == "alternative":
            plain = [option for option in inner if option.get_content_type() == "text/plain"]
            stack.append(plain[0] if plain else inner[-1])
        else:
            stack.extend(reversed(inner))


def _is_text(part: Message[Any, Any]) -> bool:
    return part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment"


def _name(part: Message[Any, Any]) -> str:
    try:
        return clean(_decoded(part.get_filename() or "")).strip()
    except (LookupError, ValueError):  # of a character set that is none
        return ""


def _content(part: Message[Any, Any]) -> bytes:
    if part.is_multipart():
        try:
            return b"".join(bytes(inner) for inner in part.get_payload() if isinstance(inner, Message))
        except (RecursionError, ValueError, LookupError, TypeError, AttributeError):
            return b""  # a message in the message that cannot be written again: it is in the whole
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _text(part: Message[Any, Any], content: bytes) -> str:
    try:
        text = content.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):
        text = content.decode("utf-8", "replace")
    if part.get_content_subtype() == "html":
        text = _words(text)
    return clean(text)


def _decoded(value: object) -> str:
    """RFC 2047 words as text; what cannot be decoded, as it is."""
    text = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        return re.sub(r"\r?\n[ \t]", " ", str(make_header(decode_header(text))))
    except (MessageError, LookupError, ValueError):
        return text


def _words(page: str) -> str:
    """HTML without its markup, in one pass: the library's own parser raises and takes quadratic time on bad pages."""
    words: list[str] = []
    at, hidden = 0, False
    for tag in _TAG.finditer(page):
        if not hidden:
            words.append(_SPACE.sub(" ", page[at : tag.start()]))
        at = tag.end()
        name = (tag[2] or "").lower()
        if name in _HIDDEN:
            hidden = not tag[1]
        elif name in _BLOCKS and not hidden:
            words.append("\n")
    if not hidden:
        words.append(_SPACE.sub(" ", page[at:]))
    return re.sub(r"\n{3,}", "\n\n", html.unescape("".join(words))).strip() + "\n"
