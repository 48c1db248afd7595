"""The demo's letter is a message as RFC 5322 and MIME have it."""

from __future__ import annotations

import zlib

from forwarder.demo.letter import ATTACHMENT, HEIGHT, WIDTH, letter, picture
from forwarder.reader.view import missing_headers, view


def test_it_has_all_that_a_message_should_have() -> None:
    octets = letter("alice@acme.example", ["brian@pobox.example"]).replace("\n", "\r\n").encode("ascii")
    assert missing_headers(octets) == []
    seen = view(octets)
    assert "needs it no more" in seen.text
    assert [(part.name, part.type, part.content) for part in seen.attachments] == [(ATTACHMENT, "image/png", picture())]
    assert max(map(len, octets.splitlines())) <= 98


def test_its_picture_is_a_png_with_all_its_pixels() -> None:
    octets = picture()
    assert octets.startswith(b"\x89PNG\r\n\x1a\n")
    at = octets.index(b"IDAT")
    data = zlib.decompress(octets[at + 4 : at + 4 + int.from_bytes(octets[at - 4 : at], "big")])
    assert len(data) == HEIGHT * (1 + WIDTH // 8)
