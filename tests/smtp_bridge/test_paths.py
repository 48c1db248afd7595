"""Addresses as they stand in MAIL, RCPT and Postfix's tables."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.model import Mailbox, parse_mailbox
from forwarder_smtp_bridge.outcomes import Refused
from forwarder_smtp_bridge.paths import bare_mailbox, recipient_path, sender_path


@pytest.mark.parametrize(
    ("path", "local", "domain"),
    [
        ("<b@pobox.example>", "b", "pobox.example"),
        ("<B.C+tag@Pobox.EXAMPLE>", "B.C+tag", "pobox.example"),
        ("<o'neil_x@x.example>", "o'neil_x", "x.example"),
        ('<"a b"@x.example>', "a b", "x.example"),
        ('<"a\\"\\\\b"@x.example>', 'a"\\b', "x.example"),
        ('<"a@b>"@x.example>', "a@b>", "x.example"),
        ('<"plain"@x.example>', "plain", "x.example"),
        ("<=?utf-8?q?=61=00?=@x.example>", "=?utf-8?q?=61=00?=", "x.example"),
        ("<@relay.example,@b.example:b@x.example>", "b", "x.example"),
        ("<grå@bücher.example>", "grå", "xn--bcher-kva.example"),
    ],
)
def test_a_local_part_is_unquoted_and_kept_as_written(path: str, local: str, domain: str) -> None:
    mailbox, behind = recipient_path(path + " SIZE=1")
    assert (mailbox, behind) == (Mailbox(local, domain), " SIZE=1")
    assert sender_path(path) == (str(mailbox), "")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "b@x.example",
        "<b@x.example",
        "<b>",
        "<@x.example>",
        "<b@>",
        "<.b@x.example>",
        "<b.@x.example>",
        "<b..c@x.example>",
        "<a b@x.example>",
        "<a@b@x.example>",
        '<""@x.example>',
        '<"a"b@x.example>',
        '<"a@x.example>',
        '<"a\x01"@x.example>',
        '<"a\x85"@x.example>',
        "<a(comment)@x.example>",
        "<a@x..example>",
        "<a@-x.example>",
        "<a@[192.0.2.999]>",
        "<a@[x]>",
        "<@relay.example:>",
        "<<a@x.example>>",
        f"<{'a' * 256}@x.example>",
        f"<a@{'a.' * 130}example>",
    ],
)
def test_what_is_no_address_is_refused(path: str) -> None:
    for read in (recipient_path, sender_path):
        with pytest.raises(Refused) as refused:
            read(path)
        assert refused.value.reply[:2] == (553, "5.1.3")


def test_the_null_sender_is_empty_and_no_recipient() -> None:
    assert sender_path("<> SIZE=1") == ("", " SIZE=1")
    with pytest.raises(Refused):
        recipient_path("<>")


@pytest.mark.parametrize("path", ["<a@[192.0.2.1]>", "<a@[IPv6:2001:db8::1]>"])
def test_address_literals_send_but_do_not_receive(path: str) -> None:
    assert sender_path(path) == (path[1:-1], "")
    with pytest.raises(Refused):
        recipient_path(path)


@settings(max_examples=300, deadline=None)
@given(local=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20))
def test_what_the_model_takes_is_read_back_as_the_same(local: str) -> None:
    try:
        mailbox = parse_mailbox(str(Mailbox(local, "x.example")))
    except ValueError:
        with pytest.raises(Refused):
            bare_mailbox(str(Mailbox(local, "x.example")))
        return
    assert bare_mailbox(str(mailbox)) == mailbox


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet='ab<>@."\\ :,[]é\x01', max_size=24))
def test_no_text_is_read_as_what_the_model_would_not_take(text: str) -> None:
    try:
        mailbox = bare_mailbox(text)
    except Refused:
        return
    assert parse_mailbox(str(mailbox)) == mailbox
