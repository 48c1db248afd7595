"""A channel that is listened to: what arrives is handed on, and every end of it ends the wait."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from forwarder.net.channel import Channel


@pytest.fixture
def peer_and_ours() -> Iterator[tuple[socket.socket, socket.socket]]:
    peer, ours = socket.socketpair()
    ours.setblocking(False)
    with peer, ours:
        yield peer, ours


async def test_octets_are_handed_on_until_the_stream_ends(peer_and_ours: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = peer_and_ours
    heard: list[bytes] = []

    def take(data: bytes) -> bool:
        heard.append(data)
        if data == b"one":
            peer.send(b"two")
        else:
            peer.close()
        return True

    async with trio.open_nursery() as nursery:
        peer.send(b"one")
        with trio.fail_after(5):
            await Channel(ours, nursery).listen(take)
    assert heard == [b"one", b"two"]


async def test_no_more_is_handed_on_after_a_no(peer_and_ours: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = peer_and_ours
    heard: list[bytes] = []

    def take(data: bytes) -> bool:
        heard.append(data)
        peer.send(b"more")
        return False

    async with trio.open_nursery() as nursery:
        peer.send(b"one")
        with trio.fail_after(5):
            await Channel(ours, nursery).listen(take)
        await trio.testing.wait_all_tasks_blocked()
    assert heard == [b"one"]


async def test_what_the_listener_raises_is_raised_where_it_is_waited_for(
    peer_and_ours: tuple[socket.socket, socket.socket],
) -> None:
    peer, ours = peer_and_ours

    def take(data: bytes) -> bool:
        raise ValueError(data)

    async with trio.open_nursery() as nursery:
        peer.send(b"one")
        with trio.fail_after(5), pytest.raises(ValueError, match="one"):
            await Channel(ours, nursery).listen(take)


async def test_a_closed_channel_ends_the_wait_and_its_number_is_free_for_another(
    peer_and_ours: tuple[socket.socket, socket.socket],
) -> None:
    _, ours = peer_and_ours
    number = ours.fileno()
    heard: list[bytes] = []

    def take(data: bytes) -> bool:
        heard.append(data)
        return False

    async with trio.open_nursery() as nursery:
        channel = Channel(ours, nursery)
        nursery.start_soon(channel.listen, take)
        await trio.testing.wait_all_tasks_blocked()
        channel.close()
        other, mine = socket.socketpair()
        with other, mine:
            mine.setblocking(False)
            assert number in (other.fileno(), mine.fileno())
            other.send(b"for the next")
            with trio.fail_after(5):
                await Channel(mine, nursery).listen(take)
    assert heard == [b"for the next"]


async def test_a_cancelled_listener_leaves_nothing_behind(peer_and_ours: tuple[socket.socket, socket.socket]) -> None:
    peer, ours = peer_and_ours
    heard: list[bytes] = []

    def take(data: bytes) -> bool:
        heard.append(data)
        return False

    async with trio.open_nursery() as nursery:
        channel = Channel(ours, nursery)
        with trio.move_on_after(0):
            await channel.listen(take)
        peer.send(b"one")
        await trio.testing.wait_all_tasks_blocked()
        assert heard == []
        with trio.fail_after(5):
            await channel.listen(take)
    assert heard == [b"one"]
