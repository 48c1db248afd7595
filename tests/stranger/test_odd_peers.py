"""Strangers that do what the document allows and hardly anybody does: as a store to fetch from, as an agent to tell."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from . import der
from .agent import Agent
from .conftest import World
from .store import Store

MESSAGE = b"From: toby@stranger.example\r\nSubject: odd\r\n\r\n" + b"hello " * 40


def each(pdu: bytes, change: Callable[[int, bytes], bytes]) -> bytes:
    """The PDU with every element, innermost first, put through `change`."""
    made = b""
    for tag, body in der.elements(pdu):
        made += change(tag, each(body, change) if tag & der.CONSTRUCTED else body)
    return made


def strange_elements(pdu: bytes) -> bytes:
    """Unknown elements around all that a response and its data hold."""
    unknown = der.element(0x9E, b"?") + der.element(0xBD, der.element(0x04, b""))
    outer, body = der.only(pdu)
    abort, status, (_, data) = der.elements(body)
    arm, inside = der.only(data)
    answer = der.element(0xA2, der.element(arm, unknown + inside + unknown))
    return der.element(outer, unknown + der.element(*abort) + unknown + der.element(*status) + answer + unknown)


def size_as_printed_in_2004(pdu: bytes) -> bytes:
    """ResponseRetrieve with a second [0]."""
    inner = der.only(der.elements(der.only(pdu)[1])[2][1])
    if inner[0] != 0xA4:
        return pdu

    def retagged(tag: int, body: bytes) -> bytes:
        if tag == 0xA4:
            data, size = der.elements(body)
            body = der.element(*data) + der.element(0x80, size[1])
        return der.element(tag, body)

    return each(pdu, retagged)


def text_as_ia5(pdu: bytes) -> bytes:
    return each(pdu, lambda tag, body: der.element(0x16 if tag == 0x0C else tag, body))


def short(store: Store) -> None:
    store.slice = 7


def printed(store: Store) -> None:
    store.server.garnish = size_as_printed_in_2004


def garnished(store: Store) -> None:
    store.server.garnish = strange_elements


def impatient(store: Store) -> None:
    store.server.hangs_up = True


@pytest.mark.parametrize("oddity", [short, printed, garnished, impatient])
def test_a_store_to_fetch_from(world: World, oddity: Callable[[Store], None]) -> None:
    name = oddity.__name__
    store, agent = world.store(f"{name}odd"), world.agent(f"{name}oddto")
    oddity(store)
    there = world.address(f"{name}odd", f'strategy = "pull_repush"\nto = ["bob@{name}oddto.stranger.example"]')
    told = store.notification(there, MESSAGE)
    assert world.notifier("results").tell([told])[0].code == 0
    copy = agent.next()
    assert world.messages().fetch(copy) == MESSAGE
    assert world.messages().unpin(copy["identifier"])
    deadline = time.monotonic() + 20
    while store.entries[told["identifier"]].pinned:
        assert time.monotonic() < deadline, store.asked
        time.sleep(0.05)


def speaks_ia5(agent: Agent) -> None:
    agent.server.garnish = text_as_ia5


def adds_elements(agent: Agent) -> None:
    agent.server.garnish = strange_elements


def hangs_up(agent: Agent) -> None:
    agent.server.hangs_up = True


def says_nothing_of_itself(agent: Agent) -> None:
    agent.server.handle = lambda *_: ("notify", {"results": [{"code": 48}]})


@pytest.mark.parametrize("oddity", [speaks_ia5, adds_elements, hangs_up, says_nothing_of_itself])
def test_an_agent_to_tell(world: World, oddity: Callable[[Agent], None]) -> None:
    name = oddity.__name__.replace("_", "")
    agent = world.agent(name, lambda *_: {"code": 48, "text": "no"})
    oddity(agent)
    there, store = world.address(name, f'to = ["bob@{name}.stranger.example"]'), world.store(f"{name}store")
    for _ in range(3):
        assert world.notifier("results").tell([store.notification(there, MESSAGE)])[0].code == 49
