"""Views of a message: ranges of its octets, never other octets (protocol 3.2, gap 15). Oracle: Python's email."""

from __future__ import annotations

from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.model import parse_mailbox
from forwarder.store.views import HEADER_OCTETS, SUMMARY_FIELDS, HeaderScan, Views, pieces

MESSAGE = (
    b"Received: from here\r\n\tby there\r\n"
    b"From: Toby <toby@store.example>\r\n"
    b"X-Long: a\r\n b\r\n"
    b"Subject: a long\r\n  subject\r\n"
    b"To: brian@pobox.example\r\n"
    b"\r\n"
    b"From: not a header\r\n\r\nbody\r\n"
)


def scan(message: bytes, step: int = 1 << 20) -> Views:
    found = HeaderScan()
    for at in range(0, len(message), step):
        found.feed(message[at : at + step])
    return found.views()


def summary(message: bytes, views: Views) -> bytes:
    return b"".join(message[start : start + length] for start, length in views.summary)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_headers_end_with_the_empty_line_however_the_octets_come(step: int) -> None:
    views = scan(MESSAGE, step)
    assert MESSAGE[: views.headers].endswith(b"pobox.example\r\n\r\n")
    assert views == scan(MESSAGE)


def test_a_summary_is_a_few_fields_whole_and_the_empty_line() -> None:
    assert summary(MESSAGE, scan(MESSAGE)) == (
        b"From: Toby <toby@store.example>\r\nSubject: a long\r\n  subject\r\nTo: brian@pobox.example\r\n\r\n"
    )


@pytest.mark.parametrize(
    "message", [b"", b"x", b"\r\n", b"\nbody", b"From: a@b.example", b" leading\r\nFrom: c@d.example\r\n"]
)
def test_odd_messages_have_views(message: bytes) -> None:
    views = scan(message)
    assert message[: views.headers] in (message, message[:2], message[:1])


def test_a_header_section_without_end_is_cut_at_a_line() -> None:
    views = scan(b"Subject: x\r\n" * 100_000)
    assert HEADER_OCTETS - 12 < views.headers <= HEADER_OCTETS
    assert views.headers % 12 == 0


@pytest.mark.parametrize(
    ("field", "claimed"),
    [
        (b"From: Toby <toby@store.example>", "toby@store.example"),
        (b"FROM: =?utf-8?q?T=C3=B6by?=\r\n <toby@store.example>", "toby@store.example"),
        (b"From: a@b.example, c@d.example", None),
        (b"From: nobody", None),
        (b"From: a@b.example\r\nFrom: c@d.example", None),
        (b"Subject: none", None),
        (b"From: \xff\xfe@\x00", None),
    ],
)
def test_claimed_is_the_one_mailbox_of_the_one_from(field: bytes, claimed: str | None) -> None:
    assert scan(field + b"\r\n\r\n").claimed == (parse_mailbox(claimed) if claimed else None)


names = st.sampled_from(["From", "X-From", "subject", "To", "Received", "Message-ID", "Date"])
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@given(st.lists(st.tuples(names, values, st.booleans())), st.binary(max_size=100), st.integers(1, 40))
def test_the_summary_holds_the_fields_that_an_email_parser_finds(
    fields: list[tuple[str, str, bool]], body: bytes, step: int
) -> None:
    head = "".join(f"{n}: {v}\r\n{' more' if fold else ''}{chr(13) + chr(10) if fold else ''}" for n, v, fold in fields)
    message = head.encode() + b"\r\n" + body
    views = scan(message, step)
    assert message[: views.headers] == head.encode() + b"\r\n"
    wanted = [name for name in message_from_bytes(message) if name.lower().encode() in SUMMARY_FIELDS]
    assert message_from_bytes(summary(message, views)).keys() == wanted


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_a_piece_of_a_view_is_the_piece_of_its_octets(ranges: list[tuple[int, int]], offset: int, length: int) -> None:
    body = bytes(range(60))
    view = b"".join(body[start : start + size] for start, size in ranges)
    got = b"".join(body[start : start + size] for start, size in pieces(tuple(ranges), offset, length))
    assert got == view[offset : offset + length]
