"""The message that goes through the world: RFC 5322, a text and an attachment (a picture of an envelope)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from email import policy
from email.message import EmailMessage
from email.utils import localtime, make_msgid

ATTACHMENT = "envelope.png"
WIDTH, HEIGHT = 64, 40

TEXT = """\
Dear all,

this letter stays at acme.example, my store, until the last of you needs it no more.
What travels to you is a notification; how it travels differs with the address.

Alice
"""


def letter(sender: str, recipients: Sequence[str]) -> str:
    """As text without line ends of its own: each line becomes one that ends in CRLF."""
    message = EmailMessage(policy=policy.default.clone(max_line_length=90))
    message["From"] = f"Alice <{sender}>"
    message["To"] = ", ".join(recipients)
    message["Subject"] = "Eight ways to one reader"
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain=sender.partition("@")[2])
    message.set_content(TEXT)
    message.add_attachment(picture(), maintype="image", subtype="png", filename=ATTACHMENT)
    message.set_boundary("-=envelope=-")
    return message.as_string()


def picture() -> bytes:
    """A PNG of one bit a pixel, made here so that the repository holds no binary file."""
    rows = b"".join(b"\0" + _row(y) for y in range(HEIGHT))
    header = struct.pack(">2I5B", WIDTH, HEIGHT, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _row(y: int) -> bytes:
    bits = "".join("0" if _ink(x, y) else "1" for x in range(WIDTH))
    return int(bits, 2).to_bytes(WIDTH // 8, "big")


def _ink(x: int, y: int) -> bool:
    """The frame, and the flap as two slanting lines."""
    return x in (0, WIDTH - 1) or y in (0, HEIGHT - 1) or y in (x * 3 // 4, (WIDTH - 1 - x) * 3 // 4)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
