"""Codes: their classes, what a peer of 2004 is told, what becomes of a target's answer (protocol 5.0)."""

from __future__ import annotations

import pytest

from forwarder.model import Mailbox, Outcome, Redirect
from forwarder.wire.outcome import code_class, from_target, legacy_error


@pytest.mark.parametrize(
    ("code", "expected"), [(0, 0), (3, 0), (15, 0), (16, 1), (31, 1), (32, 2), (48, 3), (63, 3), (64, 2), (255, 2)]
)
def test_the_class_of_a_code(code: int, expected: int) -> None:
    assert code_class(code) == expected


@pytest.mark.parametrize(
    ("codes", "shared", "error"),
    [
        ([], False, False),
        ([0], False, False),
        ([2], False, False),
        ([1, 3], False, False),
        ([33], False, False),
        ([33], True, True),
        ([0, 33], False, False),
        ([0, 33], True, True),
        ([32], False, True),
        ([35], False, True),
        ([34], False, True),
        ([200], False, True),
        ([0, 0, 35], False, True),
        ([48], False, True),
        ([16], False, True),
        ([48, 48], False, False),
        ([0, 49], False, False),
        ([48, 32], False, True),
    ],
)
def test_what_a_peer_of_2004_is_told(codes: list[int], shared: bool, error: bool) -> None:
    assert legacy_error([Outcome(code) for code in codes], shared=shared) is error


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        *[(code, 0) for code in (0, 1, 2, 3, 9)],
        *[(code, code) for code in (32, 33, 34, 35, 40, 64)],
        *[(code, 49) for code in (16, 17, 48, 49, 51, 60)],
        *[(code, code) for code in (50, 52, 53)],
    ],
)
def test_what_a_target_said_becomes_our_answer(code: int, answer: int) -> None:
    assert from_target(Outcome(code)).code == answer


def test_promises_and_waits_go_on_words_and_redirects_do_not() -> None:
    redirects = (Redirect(Mailbox("secret", "isp.example")),)
    taken = from_target(Outcome(3, redirects, retryafter=5, retransmit=90000, text="bob has moved"))
    assert taken == Outcome(0, retransmit=90000)
    later = from_target(Outcome(33, redirects, retryafter=600, retransmit=90000, text="bob's disk"))
    assert later._replace(text="") == Outcome(33, retryafter=600)
    final = from_target(Outcome(48, redirects, retryafter=600, text="bob left"))
    assert final._replace(text="") == Outcome(49)
    assert "bob" not in later.text + final.text
