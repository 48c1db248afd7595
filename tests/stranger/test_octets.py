"""Octets that a stranger may write, and some that he may not, as the daemon reads them (docs/protocol.md 2, 3, 5.3)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from . import der
from .conftest import HERE, World
from .module import content, encode
from .notices import at_domain
from .wire import Client, Failure, read_frame, write_frame

MESSAGE = b"Subject: octets\r\n\r\nhello\r\n"
BRIAN = f"brian@{HERE}"


def command(notification: bytes, times: int = 1) -> bytes:
    """A Notify without capabilities, its notifications given by their content."""
    pdu = der.element(0x30, notification) * times
    for tag in (0xA0, 0xA0, 0xA0, 0xA1):
        pdu = der.element(tag, pdu)
    return pdu


def parts(world: World, name: str, **more: Any) -> dict[int, bytes]:
    """The elements of a notification for brian by their tags; they can be changed one by one."""
    raw = content("Notification", world.store(name).notification(BRIAN, MESSAGE, **more))
    return {tag: der.element(tag, body) for tag, body in der.elements(raw)}


def says(world: World, pdu: bytes, protocol: str = "RNASP", arm: str = "notify") -> str:
    with Client(protocol, world.where(protocol.lower())) as session:
        try:
            session.answer(session.raw(pdu), arm)
        except Failure as no:
            return no.status
    return "noerror"


def shown(world: World, key: bytes) -> Any:
    [found] = [one for one in world.mailbox("brian").waiting() if one["notification"]["identifier"] == key]
    return found["notification"]


def test_the_printed_module_of_2004_is_read(world: World) -> None:
    told = parts(world, "ia5")
    label = [der.element(0x16, one.encode()) for one in HERE.split(".")]
    told[0xA2] = der.element(0xA2, der.element(0x80, b"brian") + der.element(0xA1, b"".join(label)))
    dotted = der.element(0x0C, b"ia5.stranger.example")
    told[0xA0] = der.element(0xA0, der.element(0xA1, dotted))
    told[0x95] = der.element(0x95, der.integer(2**62 + 37 + int(time.time()) + 600))
    assert says(world, command(b"".join(told.values()))) == "noerror"
    assert shown(world, told[0x83][2:])["recipient"]["domain"] == HERE.split(".")


def test_a_tai64_time_that_is_past_is_past(world: World) -> None:
    told = parts(world, "tai", expires=2**62 + 37 + int(time.time()) - 600)
    assert says(world, command(b"".join(told.values()))) == "errorinternalproblem"


def test_unknown_elements_may_stand_anywhere(world: World) -> None:
    told = parts(world, "between")
    strange = der.element(0x8F, b"?") + der.element(0x04, b"??") + der.element(0xBE, der.element(0x02, b"\x01"))
    raw = strange + strange.join(told.values())
    assert says(world, command(raw)) == "noerror"
    assert shown(world, told[0x83][2:]).raw == raw


@pytest.mark.parametrize(
    ("tag", "element", "status"),
    [
        (0xA0, "a003a20100", "errormalformedpdu"),
        (0xA0, "a002a200", "errormalformedpdu"),
        (0xA0, "a006a1040c026120", "errormalformedpdu"),
        (0x83, "830f000000000000000000000000000000", "errormalformedpdu"),
        (0x84, "8401ff", "errormalformedpdu"),
        (0x85, "85020005", "errormalformedpdu"),
        (0x85, "850181", "errormalformedpdu"),
        (0x95, "", "noerror"),
    ],
)
def test_one_element_of_another_form(world: World, tag: int, element: str, status: str) -> None:
    told = parts(world, "forms")
    told[tag] = bytes.fromhex(element)
    assert says(world, command(b"".join(told.values()))) == status


def test_a_notification_of_more_than_8_kib(world: World) -> None:
    told = parts(world, "large")
    assert says(world, command(b"".join(told.values()) + der.element(0x9E, bytes(7000)))) == "noerror"
    assert says(world, command(b"".join(told.values()) + der.element(0x9E, bytes(9000)))) == "errormalformedpdu"


def test_a_pdu_of_more_than_1000_notifications(world: World) -> None:
    told = parts(world, "many")
    assert says(world, command(b"".join(told.values()), 1001)) == "errormalformedpdu"


def test_an_unknown_value_is_malformed(world: World) -> None:
    asked = {"identifier": bytes(16), "type": "all", "offset": 0, "length": 1}
    pdu = encode("MSRAPPDU", ("command", {"commanddata": ("retrieve", asked)}))
    assert says(world, pdu, "MSRAP", "retrieve") == "errornosuchmessage"
    assert says(world, pdu.replace(b"\x81\x01\x03", b"\x81\x01\x09"), "MSRAP", "retrieve") == "errormalformedpdu"


def test_commands_that_come_together_are_answered_one_after_another(world: World) -> None:
    with Client("RNASP", world.where("rnasp")) as session:
        for name in ("first", "second"):
            write_frame(session.sock, command(b"".join(parts(world, name).values())))
        for _ in range(2):
            session.answer(read_frame(session.sock, 1 << 20), "notify")


def test_stores_that_are_named_by_addresses_alone_are_refused(world: World) -> None:
    store = world.store("literal")
    address = {"address": ("version4", bytes([192, 0, 2, 7])), "port": 7001}
    alone = store.notification(BRIAN, MESSAGE, storeclear=("literals", [address]))
    only_tls = store.notification(BRIAN, MESSAGE, storeclear=("literals", []), storessl=at_domain(store.name))
    nowhere = store.notification(BRIAN, MESSAGE, storeclear=("literals", []))
    assert [one.code for one in world.notifier("results").tell([alone, only_tls, nowhere])] == [49, 0, 49]


def test_the_same_twice_in_one_pdu(world: World) -> None:
    told = world.store("twice").notification(BRIAN, MESSAGE)
    assert [one.code for one in world.notifier("results").tell([told, told])] == [0, 35]
