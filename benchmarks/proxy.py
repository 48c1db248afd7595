"""The ceiling: a bare pooled Trio proxy in front of one agent, with nothing around it. It forwards PDUs one by one.

    python benchmarks/proxy.py octets|splice|decode PORT SECONDS

octets: frames pass as they are. splice: the recipient of each notification is replaced by walking its headers, nothing
is checked. decode: the PDU is decoded strictly and each notification spliced, as the forwarder does it. Answers pass as
octets. A task for each client, a pool of sessions to the agent; prints its port, ends after SECONDS.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import trio

from forwarder.model import Hop, Mailbox
from forwarder.wire import rnasp
from forwarder.wire.der import header, tlv
from forwarder.wire.frames import Frames, frame
from forwarder.wire.notification import hop_tlv, original_tlv, recipient_tlv, splice

LIMIT = 1 << 20
RECEIVE = 65536
TARGET = "isp.example"
RECIPIENT, NOTIFICATIONS = 0xA2, 0xA0

Change = Callable[[bytes], bytes]


class Session:
    """A connection that gives whole PDUs."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.frames = Frames(LIMIT)

    async def next_pdu(self) -> bytes | None:
        """None: the stream has ended."""
        while (pdu := self.frames.next_pdu()) is None:
            data = await self.stream.receive_some(RECEIVE)
            if not data:
                return None
            self.frames.receive_data(data)
        return pdu


class Decode:
    """Strict decoding, the forwarder's splice with ready octets, the command made anew."""

    def __init__(self) -> None:
        self._ready: dict[Mailbox, tuple[bytes, bytes]] = {}
        self._hop = hop_tlv(Hop("proxy.example", bytes(8), int(time.time()), 3))
        features = frozenset({"results", "moved", "trace", "digest", "origin", "durable"})
        self._offer = rnasp.encode_capabilities(rnasp.Capabilities(1, features, "proxy.example"))

    def __call__(self, pdu: bytes) -> bytes:
        spliced = []
        for notification in rnasp.decode_command(pdu).notifications:
            recipient = notification.recipient
            ready = self._ready.get(recipient)
            if ready is None:
                target = Mailbox(recipient.localpart, TARGET)
                ready = self._ready[recipient] = recipient_tlv(target), original_tlv(recipient)
            spliced.append(splice(notification, ready[0], original=ready[1], hop=self._hop))
        return rnasp.encode_batch(spliced, self._offer)


class Splice:
    """The same change of recipient and no more, by the headers alone."""

    def __init__(self) -> None:
        self._ready: dict[bytes, bytes] = {}

    def __call__(self, pdu: bytes) -> bytes:
        pos, end = header(pdu, 0, len(pdu))
        pos, end = header(pdu, pos, end)
        pos, end = header(pdu, pos, end)
        batch, stop = header(pdu, pos, end)
        spliced = []
        while batch < stop:
            body, after = header(pdu, batch, stop)
            spliced.append(self._one(pdu, body, after))
            batch = after
        return rnasp.encode_batch(spliced, pdu[stop:end])

    def _one(self, pdu: bytes, pos: int, end: int) -> bytes:
        place = pos
        while pdu[place] != RECIPIENT:
            place = header(pdu, place, end)[1]
        after = header(pdu, place, end)[1]
        old = pdu[place:after]
        new = self._ready.get(old)
        if new is None:
            localpart = old[4 : 4 + old[3]].decode()
            new = self._ready[old] = recipient_tlv(Mailbox(localpart, TARGET))
        return tlv(0x30, pdu[pos:place] + new + pdu[after:end])


CHANGES: dict[str, Change] = {"octets": lambda pdu: pdu, "splice": Splice(), "decode": Decode()}


class Proxy:
    def __init__(self, port: int, change: Change) -> None:
        self._port = port
        self._change = change
        self._pool: list[Session] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        client = Session(stream)
        try:
            while (pdu := await client.next_pdu()) is not None:
                agent = self._pool.pop() if self._pool else Session(await trio.open_tcp_stream("127.0.0.1", self._port))
                await agent.stream.send_all(frame(self._change(pdu)))
                answer = await agent.next_pdu()
                if answer is None:
                    return
                self._pool.append(agent)
                await stream.send_all(frame(answer))
        except trio.BrokenResourceError:
            return


async def main(change: Change, port: int, seconds: float) -> None:
    proxy = Proxy(port, change)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    with trio.move_on_after(seconds):
        await trio.serve_listeners(proxy.serve, listeners)


if __name__ == "__main__":
    trio.run(main, CHANGES[sys.argv[1]], int(sys.argv[2]), float(sys.argv[3]))
