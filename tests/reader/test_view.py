"""A message for a person, whatever its octets are."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from forwarder.reader.view import clean, missing_headers, subject_of, view

SNIPPETS = st.sampled_from(
    [
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n",
        b"Subject: =?nonsense?b?!!!?=\n",
        b"From: \xff\xfe\r\n",
        b"\r\n",
        b"\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b'Content-Type: multipart/alternative; boundary="b"\r\n',
        b"--b\r\n",
        b"--b--\r\n",
        b"Content-Type: text/html\r\n",
        b"Content-Type: text/plain; charset=klingon\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b'Content-Disposition: attachment; filename="../../x"\r\n',
        b"<p>hi<script>x",
        b"<!--",
        b"<![x",
        b"&#x110000;",
        b"\x1b[2J\x00",
        b": \r\n",
        b"Subject: =?utf-8?b?A?=\n",
        b"Subject: =?\xfftf-8?q?x?=\n",
        b"Content-Disposition: attachment; filename*=\0'x'y\n",
    ]
)


@example(b"Content-Type: text/html\r\n\r\n<![x<p>")
@example(b"Subject: =?utf-8?b?A?=\r\n\r\n")  # of a length that base64 never has
@example(b"Subject: =?\xfftf-8?q?x?=\r\n\r\n")
@example(b"Content-Disposition: attachment; filename*=\0'x'y\r\n\r\n")
@given(st.lists(SNIPPETS | st.binary(max_size=30), max_size=30).map(b"".join))
def test_any_octets_are_shown_without_control_characters(octets: bytes) -> None:
    seen = view(octets)
    shown = [seen.text, *(value for _, value in seen.headers), *(part.name for part in seen.attachments)]
    assert all(clean(text) == text for text in shown)
    missing_headers(octets)
    subject_of(octets)


def test_of_alternatives_the_plain_one_is_shown() -> None:
    octets = (
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n"
        b"--b\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n--b--\r\n"
    )
    assert view(octets).text == "plain"


def test_html_alone_is_shown_as_words() -> None:
    octets = b"Content-Type: text/html\r\n\r\n<style>x{}</style><p>Hello &amp;<br>goodbye</p>\r\n"
    assert view(octets).text.split() == ["Hello", "&", "goodbye"]


def test_an_attached_message_is_an_attachment() -> None:
    octets = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee below\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody\r\n--b--\r\n"
    )
    seen = view(octets)
    assert seen.text == "see below"
    assert [(part.name, part.type) for part in seen.attachments] == [("part-2", "message/rfc822")]
    assert b"Subject: inner" in seen.attachments[0].content


def test_parts_nested_beyond_measure_are_one_part_to_save() -> None:
    nest = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(2000))
    seen = view(b"Subject: deep\r\n" + nest)
    assert seen.header("Subject") == "deep"
    assert [part.type for part in seen.attachments] == ["multipart/mixed"]
    message = b"Content-Type: message/rfc822\r\n\r\n" * 3000
    assert view(b"Subject: deep\r\n" + message).header("Subject") == "deep"


def test_what_a_message_lacks_is_named() -> None:
    assert missing_headers(b"From: a@b.example\r\n\r\nDate: no header\r\n") == ["Date", "Message-ID"]
    assert subject_of(b"Subject: one\r\n two\r\n\r\n") == "one two"
