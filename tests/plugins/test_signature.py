"""The signature screen on memory ports: what it lets pass, what it asks the DNS and how often (protocol 6d, 8.12)."""

from __future__ import annotations

import timeit
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from forwarder.model import Notification, ServiceLocation, Signature, parse_mailbox
from forwarder.plugin import Ask, Case, Defer, Pass, Refuse, Screen, Verdict
from forwarder.signature import ED25519, key_name, key_record, new_private, sign
from forwarder.testing import MemoryTexts, make_case, make_notification, make_ports
from forwarder.wire.notification import decode_notification, encode_notification
from forwarder_signature import forwarder_screens

(SPEC,) = forwarder_screens()
PRIVATE = new_private()
NAME = key_name("store.example", "s1")


def signed(private: bytes = PRIVATE, selector: str = "s1", **fields: Any) -> Notification:
    blank = Signature("store.example", selector, ED25519, 1, b"")
    plain = make_notification(**fields)._replace(signature=blank)
    value = sign(encode_notification(plain), private)
    return decode_notification(encode_notification(plain._replace(signature=blank._replace(value=value))))


def screen(texts: MemoryTexts, require: Sequence[str] = ()) -> Screen:
    return SPEC.make(SPEC.options.model_validate({"require": list(require)}), make_ports(texts=texts))


async def verdict(texts: MemoryTexts, notification: Notification, require: Sequence[str] = ()) -> Verdict:
    """As the chain comes to it."""
    made, case = screen(texts, require), make_case(notification=notification)
    first = made.judge(case)
    return await made.ask(case) if isinstance(first, Ask) else first


@pytest.fixture
def texts() -> MemoryTexts:
    return MemoryTexts({NAME: [key_record(PRIVATE)]})


async def test_an_absent_signature_is_neutral_and_asks_nothing(texts: MemoryTexts) -> None:
    case = make_case(notification=make_notification())
    assert screen(texts).judge(case) == Pass()
    assert not texts.asked


async def test_a_good_one_passes_and_its_key_is_asked_for_once(texts: MemoryTexts) -> None:
    made = screen(texts)
    case: Case = make_case(notification=signed())
    assert made.judge(case) == Ask()
    assert await made.ask(case) == Pass()
    assert made.judge(case) == Pass()
    assert texts.asked == [NAME]
    texts.forget()
    assert made.judge(case) == Ask()


async def test_a_wrong_one_is_code_51_also_from_memory(texts: MemoryTexts) -> None:
    forged = signed(new_private())
    assert await verdict(texts, forged) == Refuse(51, "bad signature")
    assert screen(texts).judge(make_case(notification=forged)) == Refuse(51, "bad signature")


async def test_one_by_somebody_else_is_51_without_a_look_up(texts: MemoryTexts) -> None:
    other = signed()._replace(storeclear=ServiceLocation("innocent.example"))
    assert screen(texts).judge(make_case(notification=other)) == Refuse(51, "bad signature")
    assert not texts.asked


async def test_a_silent_dns_and_a_missing_key_are_neutral(texts: MemoryTexts) -> None:
    assert await verdict(texts, signed(selector="s2")) == Pass()
    texts.silent.add(NAME)
    assert await verdict(texts, signed()) == Pass()


async def test_a_dns_that_hangs_is_neutral_in_good_time(autojump_clock: MockClock, texts: MemoryTexts) -> None:
    async def hang(name: str, /) -> tuple[str, ...]:
        await trio.sleep_forever()
        raise AssertionError

    texts.find = hang  # type: ignore[method-assign]
    with trio.fail_after(13):
        assert await verdict(texts, signed()) == Pass()
        assert await verdict(texts, signed(), ["store.example"]) == Defer(34)


@pytest.mark.parametrize("require", [["store.example"], ["example"], ["*"]])
async def test_where_policy_demands_one_all_else_fails_closed(texts: MemoryTexts, require: list[str]) -> None:
    assert await verdict(texts, make_notification(), require) == Defer(34)
    assert await verdict(texts, signed(selector="s2"), require) == Defer(34)
    assert await verdict(texts, signed(), require) == Pass()
    texts.forget()
    texts.silent.add(NAME)
    assert await verdict(texts, signed(), require) == Defer(34)
    unknown = signed()
    assert unknown.signature is not None
    assert await verdict(texts, unknown._replace(signature=unknown.signature._replace(algorithm=2)), require) == (
        Defer(34)
    )


async def test_policy_for_one_store_is_none_for_others(texts: MemoryTexts) -> None:
    assert await verdict(texts, make_notification(), ["bank.example", "re.example"]) == Pass()


async def test_it_survives_being_forwarded(texts: MemoryTexts) -> None:
    came = signed()
    moved = came._replace(recipient=parse_mailbox("bob@isp.example"), original=came.recipient, hops=1)
    assert await verdict(texts, decode_notification(encode_notification(moved))) == Pass()


def test_a_bad_domain_in_the_table_is_told() -> None:
    with pytest.raises(ValueError, match="no domain"):
        SPEC.options.model_validate({"require": ["not a domain"]})


async def test_a_verification_takes_a_tenth_of_a_millisecond_or_so(texts: MemoryTexts) -> None:
    made, case = screen(texts), make_case(notification=signed())
    await made.ask(case)
    assert min(timeit.repeat(lambda: made.judge(case), number=100, repeat=5)) / 100 < 0.001
