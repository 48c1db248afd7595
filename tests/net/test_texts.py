"""TXT look-ups for signatures: remembered for their TTL, one at a time for a name, bounded (net/texts.py)."""

from __future__ import annotations

import pytest
import trio

from forwarder.net.resolve import Dns
from forwarder.net.texts import AT_ONCE, TextRecords
from forwarder.ports import NoService

from .conftest import StartNameserver

NAME = "s1._im2000-key.store.example"
KEY = "v=im2k1; k=ed25519; p=AAAA"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_key_is_asked_for_once_in_its_ttl(nameserver: StartNameserver) -> None:
    server, clock = await nameserver(f'{NAME}. 90 IN TXT "{KEY[:9]}" "{KEY[9:]}"\n'), Clock()
    texts = TextRecords(Dns([server.endpoint], {}), clock)
    assert texts.known(NAME) is None
    assert await texts.find(NAME) == (KEY,)
    assert texts.known(NAME) == (KEY,)
    clock.now += 89
    assert await texts.find(NAME) == (KEY,)
    assert server.asked[NAME, "TXT"] == 1
    clock.now += 2
    assert texts.known(NAME) is None
    await texts.find(NAME)
    assert server.asked[NAME, "TXT"] == 2


async def test_many_who_ask_at_once_are_one_question(nameserver: StartNameserver) -> None:
    server = await nameserver(f'{NAME}. 90 IN TXT "{KEY}"\n')
    texts = TextRecords(Dns([server.endpoint], {}))
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(texts.find, NAME)
    assert server.asked[NAME, "TXT"] == 1


async def test_an_absence_is_remembered_too(nameserver: StartNameserver) -> None:
    server = await nameserver("")
    texts = TextRecords(Dns([server.endpoint], {}))
    assert await texts.find(NAME) == ()
    assert texts.known(NAME) == ()
    assert await texts.find(NAME) == ()
    assert server.asked[NAME, "TXT"] == 1


async def test_no_answer_is_said_and_asked_again_only_after_a_moment(nameserver: StartNameserver) -> None:
    server, clock = await nameserver(""), Clock()
    server.failing.add(NAME)
    texts = TextRecords(Dns([server.endpoint], {}), clock)
    for _ in range(3):
        with pytest.raises(NoService):
            await texts.find(NAME)
    assert texts.known(NAME) is None
    asked = server.asked[NAME, "TXT"]
    clock.now += 31
    server.failing.clear()
    assert await texts.find(NAME) == ()
    assert server.asked[NAME, "TXT"] == asked + 1


async def test_what_is_kept_of_a_name_is_bounded(nameserver: StartNameserver) -> None:
    long = " ".join(f'"{"x" * 200}"' for _ in range(3))
    lines = [f"{NAME}. 90 IN TXT {long}", *(f'{NAME}. 90 IN TXT "record {n}"' for n in range(6))]
    server = await nameserver("\n".join(lines) + "\n")
    found = await TextRecords(Dns([server.endpoint], {})).find(NAME)
    assert len(found) == 4
    assert all(text.startswith("record ") for text in found)


async def test_a_flood_of_invented_names_is_asked_a_few_at_a_time(nameserver: StartNameserver) -> None:
    server = await nameserver("")
    server.gate = trio.Event()
    texts = TextRecords(Dns([server.endpoint], {}))
    with trio.move_on_after(0.3):
        async with trio.open_nursery() as nursery:
            for n in range(3 * AT_ONCE):
                nursery.start_soon(texts.find, f"s{n}._im2000-key.store.example")
    assert len(server.asked) <= AT_ONCE
    server.gate.set()
