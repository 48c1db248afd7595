"""LMTP over real sockets and memory streams: real clients, deadlines, the cap, and what happens when we fail."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import smtplib
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from forwarder.model import Mailbox
from forwarder.testing import MemoryLog
from forwarder_smtp_bridge.events import Mail
from forwarder_smtp_bridge.outcomes import Reply
from forwarder_smtp_bridge.serve import IDLE_SESSIONS, Envelope, Lmtp, Sink, Waits

OK = Reply(250, "2.1.0", "ok")
NO = Reply(550, "5.1.1", "no such mailbox")
TAKEN = Reply(250, "2.1.5", "taken")
MAX_SIZE = 30 << 20
DOTS = b"S: x\r\n\r\n.dot\r\n..\r\n"


class House:
    """A Delivery that spools and keeps. Who is called "nobody" is unknown; the hooks break what a test wants broken.

    threads: False where a clock jumps, for it does not see them; such a house forgets all octets.
    """

    def __init__(self, folder: Path, *, threads: bool = True) -> None:
        self.folder = folder
        self.threads = threads
        self.taken: list[tuple[Envelope, Path]] = []
        self.aborted = 0
        self.on_write: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self.on_commit: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self.replies: Callable[[Envelope], Sequence[Reply]] = lambda envelope: [TAKEN] * len(envelope.recipients)

    async def mail(self, mail: Mail) -> Reply:
        return OK

    async def rcpt(self, envelope: Envelope, mailbox: Mailbox) -> Reply:
        return NO if mailbox.localpart == "nobody" else OK

    async def data(self, envelope: Envelope) -> Sink | Reply:
        return Bag(self, envelope)


class Bag:
    def __init__(self, house: House, envelope: Envelope) -> None:
        self._house, self._envelope, self._path = house, envelope, house.folder / secrets.token_hex(8)

    async def write(self, octets: bytes) -> None:
        await self._house.on_write()
        if self._house.threads:
            async with await trio.open_file(self._path, "ab") as file:
                await file.write(octets)

    async def commit(self) -> Sequence[Reply]:
        await self._house.on_commit()
        self._house.taken.append((self._envelope, self._path))
        return self._house.replies(self._envelope)

    async def abort(self) -> None:
        self._house.aborted += 1
        if self._house.threads:
            self._path.unlink(missing_ok=True)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def forgetful(tmp_path: Path) -> House:
    return House(tmp_path, threads=False)


def lmtp(house: House, sessions: int = 10, max_size: int = MAX_SIZE, waits: Waits | None = None) -> Lmtp:
    return Lmtp("mx.pobox.example", house, MemoryLog(), sessions=sessions, max_size=max_size, waits=waits or Waits())


@asynccontextmanager
async def listening(service: Lmtp) -> AsyncIterator[int]:
    """The port of the service on a real socket."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, service.serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


class Peer:
    """The other end of a session on a memory stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.seen = b""

    async def send(self, octets: bytes) -> None:
        await self.stream.send_all(octets)

    async def until(self, end: bytes) -> bytes:
        while end not in self.seen:
            octets = await self.stream.receive_some()
            assert octets, self.seen
            self.seen += bytes(octets)
        said, _, self.seen = self.seen.partition(end)
        return said + end

    async def rest(self) -> bytes:
        while octets := await self.stream.receive_some():
            self.seen += bytes(octets)
        return self.seen


@asynccontextmanager
async def peer(service: Lmtp) -> AsyncIterator[Peer]:
    """A peer who has read the greeting."""
    async with trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(service.serve, ours)
        talk = Peer(theirs)
        with trio.fail_after(10_000):
            await talk.until(b"LMTP\r\n")
            yield talk
        nursery.cancel_scope.cancel()


ENVELOPE = b"LHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@pobox.example>\r\nRCPT TO:<c@pobox.example>\r\n"


async def test_smtplib_delivers(house: House) -> None:
    def send(port: int) -> dict[str, tuple[int, bytes]]:
        with smtplib.LMTP("127.0.0.1", port, local_hostname="x.example") as client:
            return client.sendmail(
                "a@x.example", ["nobody@pobox.example", "b@pobox.example"], b"S: x\r\n\r\n.dot\r\n..\r\n"
            )

    async with listening(lmtp(house)) as port:
        assert await trio.to_thread.run_sync(send, port) == {"nobody@pobox.example": (550, b"5.1.1 no such mailbox")}
    [(envelope, spooled)] = house.taken
    assert envelope.mail.sender == "a@x.example"
    assert envelope.recipients == (Mailbox("b", "pobox.example"),)
    assert spooled.read_bytes() == DOTS
    assert house.aborted == 0


async def test_swaks_delivers_pipelined(house: House) -> None:
    if shutil.which("swaks") is None:
        pytest.skip("swaks is not installed: nothing is known of it")
    async with listening(lmtp(house)) as port:
        command = ["swaks", "--protocol", "LMTP", "--server", f"127.0.0.1:{port}", "--from", "<>", "--pipeline"]
        command += ["--to", "b@pobox.example,c@pobox.example", "--body", ".\n..x\n"]
        done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout.count(b"250 2.1.5 taken") == 2
    [(envelope, spooled)] = house.taken
    assert envelope.mail.sender == ""
    assert b"\r\n\r\n.\r\n..x\r\n" in spooled.read_bytes()


async def test_smtp_source_of_postfix_delivers_many_at_once(house: House) -> None:
    if shutil.which("smtp-source") is None:
        pytest.skip("smtp-source of Postfix is not installed: nothing is known of it")
    async with listening(lmtp(house)) as port:
        # fmt: off
        command = ["smtp-source", "-L", "-s", "5", "-m", "100", "-r", "3", "-l", "5000",
                   "-f", "a@x.example", "-t", "b@pobox.example", f"inet:127.0.0.1:{port}"]
        # fmt: on
        await trio.run_process(command)
    assert len(house.taken) == 100
    assert {len(envelope.recipients) for envelope, _ in house.taken} == {3}


async def test_25_mib_come_in_bounded_memory(house: House) -> None:
    block = b".line with a dot, and then some octets up to sixty-four of them.\r\n" * 992
    async with listening(lmtp(house)) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        talk = Peer(stream)
        await talk.send(ENVELOPE + b"DATA\r\n")
        await talk.until(b"354 end data with CR LF . CR LF\r\n")
        tracemalloc.start()
        for _ in range(400):
            await talk.send(block)
        await talk.send(b".\r\n")
        await talk.until(b"250 2.1.5 taken\r\n250 2.1.5 taken\r\n")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert house.taken[0][1].stat().st_size == (len(block) - 992) * 400 > 25_000_000
    assert most < 400_000


async def test_without_an_answer_when_delivery_fails_after_the_dot(house: House) -> None:
    async def bug() -> None:
        raise ZeroDivisionError

    house.on_commit = bug
    async with peer(lmtp(house)) as talk:
        await talk.send(ENVELOPE + b"DATA\r\n")
        await talk.until(b"354 end data with CR LF . CR LF\r\n")
        await talk.send(b"x\r\n.\r\n")
        assert await talk.rest() == b""
    assert (house.taken, house.aborted) == ([], 1)
    assert list(house.folder.iterdir()) == []


async def test_without_an_answer_when_the_replies_do_not_fit(house: House) -> None:
    house.replies = lambda envelope: [TAKEN]
    async with peer(lmtp(house)) as talk:
        await talk.send(ENVELOPE + b"DATA\r\n")
        await talk.until(b"354 end data with CR LF . CR LF\r\n")
        await talk.send(b"x\r\n.\r\n")
        assert await talk.rest() == b""


async def test_without_an_answer_when_delivery_hangs(forgetful: House, autojump_clock: trio.testing.MockClock) -> None:
    forgetful.on_commit = trio.sleep_forever
    async with peer(lmtp(forgetful)) as talk:
        await talk.send(ENVELOPE + b"DATA\r\n")
        await talk.until(b"354 end data with CR LF . CR LF\r\n")
        await talk.send(b"x\r\n.\r\n")
        assert await talk.rest() == b""
    assert trio.current_time() >= 300
    assert forgetful.aborted == 1


async def test_a_full_disk_is_temporary_for_each_recipient(house: House) -> None:
    async def full() -> None:
        raise OSError(28, "No space left on device")

    async with peer(lmtp(house)) as talk:
        for broken in ("on_write", "on_commit"):
            setattr(house, broken, full)
            await talk.send(ENVELOPE + b"DATA\r\n")
            await talk.until(b"354 end data with CR LF . CR LF\r\n")
            await talk.send(b"x" * 50_000 + b"\r\n.\r\n")
            assert await talk.until(b"\r\n" * 1) == b"451 4.3.0 try again later\r\n"
            assert await talk.until(b"\r\n") == b"451 4.3.0 try again later\r\n"
            setattr(house, broken, trio.lowlevel.checkpoint)
        await talk.send(ENVELOPE + b"DATA\r\n")
        await talk.until(b"354 end data with CR LF . CR LF\r\n")
        await talk.send(b"x\r\n.\r\n")
        await talk.until(b"250 2.1.5 taken\r\n250 2.1.5 taken\r\n")
    assert house.aborted == 2
    assert len(list(house.folder.iterdir())) == 1


async def test_too_big_is_told_each_recipient_and_leaves_no_file(house: House) -> None:
    async with peer(lmtp(house, max_size=100_000)) as talk:
        await talk.send(ENVELOPE + b"DATA\r\n")
        await talk.until(b"354 end data with CR LF . CR LF\r\n")
        await talk.send(b"x" * 200_000 + b"\r\n.\r\nQUIT\r\n")
        assert await talk.rest() == b"552 5.3.4 message is too big\r\n" * 2 + b"221 2.0.0 bye\r\n"
    assert list(house.folder.iterdir()) == []


async def test_a_peer_that_stalls_in_data_is_left_and_harms_no_other(
    forgetful: House, autojump_clock: trio.testing.MockClock
) -> None:
    service = lmtp(forgetful, sessions=2)
    async with peer(service) as stalled:
        await stalled.send(ENVELOPE + b"DATA\r\n")
        await stalled.until(b"354 end data with CR LF . CR LF\r\n")
        await stalled.send(b"x" * 40_000)
        async with peer(service) as other:
            await other.send(ENVELOPE + b"DATA\r\n")
            await other.until(b"354 end data with CR LF . CR LF\r\n")
            await other.send(b"x\r\n.\r\n")
            await other.until(b"250 2.1.5 taken\r\n250 2.1.5 taken\r\n")
        assert await stalled.rest() == b""
        assert 180 <= trio.current_time() < 200
    assert forgetful.aborted == 1
    assert len(forgetful.taken) == 1
    assert service.open == 0


async def test_a_message_that_drips_ends_too(forgetful: House, autojump_clock: trio.testing.MockClock) -> None:
    async with peer(lmtp(forgetful)) as talk:
        await talk.send(ENVELOPE + b"DATA\r\n")
        await talk.until(b"354 end data with CR LF . CR LF\r\n")
        with contextlib.suppress(trio.BrokenResourceError):
            while trio.current_time() < 5000:
                await talk.send(b"x")
                await trio.sleep(100)
    assert 1800 <= trio.current_time() < 2000


@pytest.mark.parametrize("drip", [b"", b"N", b"NOOP"])
async def test_an_idle_peer_is_told_and_left(
    forgetful: House, autojump_clock: trio.testing.MockClock, drip: bytes
) -> None:
    async with peer(lmtp(forgetful)) as talk:
        await trio.sleep(200)
        await talk.send(b"NOOP\r\n" + drip)
        await talk.until(b"250 2.0.0 ok\r\n")
        assert await talk.rest() == b"421 4.4.2 timeout\r\n"
    assert trio.current_time() == 500


async def test_one_session_too_many_is_told_to_come_later(house: House) -> None:
    service = lmtp(house, sessions=1)
    async with AsyncExitStack() as held:
        talks = [await held.enter_async_context(peer(service)) for _ in range(IDLE_SESSIONS)]
        ours, theirs = trio.testing.memory_stream_pair()
        await service.serve(ours)
        assert await Peer(theirs).rest() == b"421 4.3.2 too many sessions, try again later\r\n"
        await talks[0].send(b"QUIT\r\n")
        assert await talks[0].rest() == b"221 2.0.0 bye\r\n"
        async with peer(service):
            pass


async def test_a_transaction_waits_for_its_turn_and_idle_sessions_take_nobodys(house: House) -> None:
    service = lmtp(house, sessions=1)
    async with peer(service), peer(service) as first, peer(service) as second:
        await first.send(ENVELOPE + b"DATA\r\n")
        await first.until(b"354 end data with CR LF . CR LF\r\n")
        await second.send(b"LHLO x\r\nMAIL FROM:<a@x.example>\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await first.send(b"x\r\n.\r\n")
        await first.until(b"250 2.1.5 taken\r\n" * 2)
        await second.until(b"250 2.1.0 ok\r\n")


async def test_who_gets_no_turn_in_time_is_told_so_and_may_stay(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    service = lmtp(house, sessions=1)
    async with peer(service) as first, peer(service) as second:
        await first.send(ENVELOPE)
        await first.until(b"250 2.1.0 ok\r\n" * 3)
        await second.send(b"LHLO x\r\nMAIL FROM:<a@x.example>\r\n")
        await second.until(b"451 4.3.2 busy, try again later\r\n")
        await first.send(b"RSET\r\n")
        await second.send(b"MAIL FROM:<a@x.example>\r\n")
        await second.until(b"250 2.1.0 ok\r\n")


async def test_a_drain_ends_the_idle_now_and_the_others_after_their_message(house: House) -> None:
    service = lmtp(house)
    async with peer(service) as idle, peer(service) as busy:
        await busy.send(ENVELOPE + b"DATA\r\n")
        await busy.until(b"354 end data with CR LF . CR LF\r\n")
        await trio.testing.wait_all_tasks_blocked()
        service.drain()
        assert await idle.rest() == b"421 4.3.2 shutting down, try again later\r\n"
        await busy.send(b"x\r\n.\r\n")
        done = await busy.rest()
        assert done == b"250 2.1.5 taken\r\n" * 2 + b"421 4.3.2 shutting down, try again later\r\n"
    ours, theirs = trio.testing.memory_stream_pair()
    await service.serve(ours)
    assert await Peer(theirs).rest() == b"421 4.3.2 shutting down, try again later\r\n"


async def test_who_says_something_in_the_moment_of_a_drain_is_told_too(house: House) -> None:
    service = lmtp(house)
    async with peer(service) as talk:
        await talk.send(b"LHLO x\r\n")
        await talk.until(b"250 ENHANCEDSTATUSCODES\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(talk.stream, trio.StapledStream)
        sending = talk.stream.send_stream
        assert isinstance(sending, trio.testing.MemorySendStream)
        pump = sending.send_all_hook
        assert pump is not None

        async def then_drain() -> None:
            await pump()  # the session's receiving is over by it, and it has not run yet
            service.drain()

        sending.send_all_hook = then_drain
        await talk.send(b"MAIL FROM:<a@x.example>\r\n")
        assert await talk.rest() == b"421 4.3.2 shutting down, try again later\r\n"


async def test_a_peer_that_goes_in_the_midst_leaves_nothing_behind(house: House) -> None:
    service = lmtp(house)
    async with peer(service) as talk:
        await talk.send(ENVELOPE + b"DATA\r\n")
        await talk.until(b"354 end data with CR LF . CR LF\r\n")
        await talk.send(b"x" * 100_000)
        await talk.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
    assert (service.open, house.aborted, list(house.folder.iterdir())) == (0, 1, [])


async def test_a_shutdown_in_the_midst_leaves_nothing_behind(house: House) -> None:
    service = lmtp(house)
    async with peer(service) as talk:
        await talk.send(ENVELOPE + b"DATA\r\n")
        await talk.until(b"354 end data with CR LF . CR LF\r\n")
        await talk.send(b"x" * 100_000)
    assert (service.open, house.aborted, list(house.folder.iterdir())) == (0, 1, [])
