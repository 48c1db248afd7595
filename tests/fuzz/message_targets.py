"""Messages of strangers: their heads at our store, their parts in a reader's hands."""

from __future__ import annotations

import re

from forwarder.model import parse_mailbox
from forwarder.reader.view import clean, missing_headers, subject_of, view
from forwarder.store.views import HEADER_OCTETS, SUMMARY_RANGES, HeaderScan, pieces

from .target import Choices, Target, plain, torn

FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f‎‏‪-‮⁦-⁩]")
END = re.compile(rb"\A\r?\n|\n\r?\n")
MAIL = b"From: Toby <toby@home.example>\r\nX-Other: x\r\nSubject: =?utf-8?q?h=C3=A9?=\r\n\tllo\r\n\r\ndear all\r\n"
MIXED = b"""Content-Type: multipart/mixed; boundary=b
Date: Tue, 24 Nov 2026 09:00:00 +0000
Message-ID: <1@home.example>
From: "a, b" <a@home.example>, c@home.example

--b
Content-Type: multipart/alternative; boundary="c"

--c
Content-Type: text/html; charset=latin-1
Content-Transfer-Encoding: quoted-printable

<p>caf=E9</p><script>x</script>
--c--
--b
Content-Type: application/pdf
Content-Disposition: attachment; filename*=utf-8''a%20b.pdf
Content-Transfer-Encoding: base64

AAAA
--b
Content-Type: message/rfc822

Subject: inner

x
--b--
"""
WORDS = [
    *(b"\r\n", b"\n\n", b"\r\n\r\n", b": ", b"From: ", b"Subject: ", b"Content-Type: ", b"multipart/mixed; boundary=b"),
    *(b"--b", b"--b--", b"text/html", b"text/plain; charset=utf-16", b"message/rfc822", b"message/delivery-status"),
    *(b"Content-Transfer-Encoding: base64", b"quoted-printable", b"uuencode", b"=?utf-8?b?", b"?=", b"=?x?q?"),
    *(b"filename*0*=", b"filename*=utf-8''%ff", b";", b'"', b"(", b")", b"<", b">", b"@", b"\x1b[", b"\xff", b"&#0;"),
]


def heads(octets: bytes) -> None:
    """However it comes in, the head is what stands before the body, and the views are made of its octets."""
    choices, body = Choices(octets[:8]), octets[8:]
    scan, whole = HeaderScan(), HeaderScan()
    for piece in torn(body, choices):
        scan.feed(piece)
    whole.feed(body)
    views = scan.views()
    assert views == whole.views()
    end = END.search(body)
    assert views.headers == (end.end() if end else len(body)) <= HEADER_OCTETS
    at = 0
    for start, length in views.summary:
        assert at <= start < start + length <= views.headers
        at = start + length
    assert len(views.summary) <= SUMMARY_RANGES
    size = sum(length for _, length in views.summary)
    for offset, length in ((0, size), (1, 5), (size, 9)):
        cut = pieces(views.summary, offset, length)
        assert sum(count for _, count in cut) == max(0, min(length, size - offset))
    if views.claimed is not None:
        assert parse_mailbox(str(views.claimed)) == views.claimed


def shown(octets: bytes) -> None:
    """Something is shown, and nothing of it moves a cursor."""
    seen = view(octets)
    for text in (seen.text, subject_of(octets), *(value for _, value in seen.headers)):
        assert not FORBIDDEN.search(text), text
        assert clean(text) == text
        text.encode()
    for attachment in seen.attachments:
        assert attachment.name.isprintable() or not FORBIDDEN.search(attachment.name)
        attachment.name.encode()
        assert attachment.size == len(attachment.content)
    missing_headers(octets)


TARGETS = [
    Target("heads", plain(heads), [bytes(range(8)) + MAIL, bytes(8) + MIXED], WORDS),
    Target("mime", plain(shown), [MAIL, MIXED], WORDS),
]
