"""TLS from the first octet: whose certificate is shown, whom a client believes, what strangers try (protocol 2).

Real sockets on loopback, certificates by trustme, and OpenSSL's own client as the other side where that is told.
"""

from __future__ import annotations

import datetime
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from forwarder.config.certificates import load_pair
from forwarder.model import Endpoint, Mailbox, Notification, Peer, ServiceLocation
from forwarder.net.certificates import Certificates, Pair
from forwarder.net.client import Client
from forwarder.net.server import Limits, PduServer, bound, listen
from forwarder.net.sessions import Pool
from forwarder.net.tls import Trust, system_context
from forwarder.plugin import PeerError
from forwarder.ports import Agent, Heard, Lost, Status2004
from forwarder.wire.msrap import QuerySize, Response, Retrieve, Retrieved, Size, View
from forwarder.wire.notification import encode_notification
from forwarder.wire.rnasp import Notify, NotifyAnswer, Status
from forwarder.wire.rnasp import Response as Answer
from forwarder.wire.session import MSRAP, NEED_DATA, RNASP, ClientSession, ServerSession

BODY = bytes(range(256)) * 4096  # 1 MiB: more than any record or socket buffer holds
KEY = bytes(16)
NOTIFICATION = encode_notification(
    Notification(ServiceLocation("store.example"), None, Mailbox("brian", "isp.example"), KEY, "toby")
)


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, /, **fields: Any) -> None:
        self.lines.append((event, fields))


class Store:
    """An MSRAP service that knows one message, and by what its peers came."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []

    def open(self, peer: Peer) -> Store:
        self.peers.append(peer)
        return self

    async def answer(self, command: Any) -> Any:
        if isinstance(command, Retrieve):
            data = BODY[command.offset : command.offset + command.length]
            return Response(False, Status.noerror, Retrieved(data, len(BODY)))
        return Response(False, Status.noerror, Size(len(BODY)))

    async def close(self) -> None:
        return


class Rna:
    """An RNASP service that takes everything; `silent` ones end a session instead, after it served so many."""

    def __init__(self) -> None:
        self.taken = 0

    def receive(self, command: Notify, peer: Peer, answer: Callable[[Any], None], /) -> None:
        self.taken += len(command.notifications)
        answer(Answer(False, Status.noerror, NotifyAnswer()))


class House:
    """Servers on loopback with certificates of one authority."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.folder = folder
        self.nursery = nursery
        self.authority = trustme.CA()
        self.log = Log()
        self.pairs: list[Pair] = []
        self.certificates: Certificates
        self.now = 0.0
        self.clients: list[Client] = []

    def issue(self, *names: str, file: str = "", **more: Any) -> Pair:
        """Writes a pair for these names; the first is the file's name."""
        issued = self.authority.issue_cert(*names, **more)
        certificate, key = (self.folder / f"{file or names[0]}.{kind}" for kind in ("cert", "key"))
        certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return Pair((names[0],), certificate, key, lambda: load_pair(certificate, key))

    async def serve(self, service: Any, *pairs: Pair, protocol: Any = MSRAP) -> tuple[PduServer, Endpoint]:
        self.certificates = Certificates(pairs, self.log, lambda: self.now)
        server = PduServer(protocol, service, Limits(0, 0, lambda address: False), self.log)
        listener = await listen(Endpoint("127.0.0.1", 0))
        self.nursery.start_soon(server.run, (), [listener], self.certificates.context)
        return server, bound(listener)

    def trust(self) -> Trust:
        context = system_context()
        self.authority.configure_trust(context)
        return lambda: context

    async def client(self, endpoint: Endpoint, name: str) -> Client:
        return await self.connect(Agent((endpoint,), name, tls=True), self.trust())

    async def connect(self, agent: Agent, trust: Trust) -> Client:
        client = await Client.connect(dial, agent, MSRAP, trust)
        self.clients.append(client)
        return client


async def dial(endpoint: Endpoint) -> trio.SocketStream:
    return await trio.open_tcp_stream(endpoint.address, endpoint.port)


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[House]:
    made = House(tmp_path, nursery)
    yield made
    for client in made.clients:
        await client.aclose()


def shown(endpoint: Endpoint, name: str | None, context: ssl.SSLContext) -> Any:
    """The certificate that OpenSSL's own client is shown. Blocking."""
    with (
        socket.create_connection(endpoint, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        return secure.getpeercert()


@contextmanager
def refused(text: str) -> Iterator[None]:
    with pytest.raises(PeerError, match=text):
        yield


# -- what passes


async def test_a_session_over_tls_says_what_a_clear_one_says(house: House) -> None:
    store = Store()
    _, endpoint = await house.serve(store, house.issue("isp.example"))
    client = await house.client(endpoint, "isp.example")
    assert (await client.ask(QuerySize(KEY))).data == Size(len(BODY))
    for offset, length in ((0, len(BODY)), (5, 1), (100, 70_000)):
        answer = await client.ask(Retrieve(KEY, View.all, offset, length))
        assert answer.data.data == BODY[offset : offset + length]
    await client.aclose()
    assert [peer.tls for peer in store.peers] == [True], "the service knows by what its peer came"


async def test_octets_may_come_one_by_one(house: House) -> None:
    """Records torn anywhere, in the handshake too: a proxy in between hands on single octets."""
    _, endpoint = await house.serve(Store(), house.issue("isp.example"))

    async def proxy(ours: trio.SocketStream) -> None:
        theirs = await dial(endpoint)
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
            while data := await source.receive_some():
                for at in range(len(data)):
                    await sink.send_all(data[at : at + 1])

        async with ours, theirs, trio.open_nursery() as both:
            both.start_soon(pump, ours, theirs)
            both.start_soon(pump, theirs, ours)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    house.nursery.start_soon(trio.serve_listeners, proxy, [listener])
    client = await house.client(bound(listener), "isp.example")
    assert (await client.ask(Retrieve(KEY, View.all, 0, 300))).data.data == BODY[:300]


async def test_records_that_come_together_are_all_read(house: House) -> None:
    """One command in a record for each octet, all in one segment: nothing of it waits for more to come."""
    _, endpoint = await house.serve(Store(), house.issue("isp.example"))
    stream = await dial(endpoint)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = house.trust()().wrap_bio(incoming, outgoing, server_hostname="isp.example")

    async def until_done(step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                if outgoing.pending:
                    await stream.send_all(outgoing.read())
                incoming.write(await stream.receive_some())

    session = ClientSession(MSRAP)
    async with stream:
        await until_done(tls.do_handshake)
        for octet in session.send(QuerySize(KEY)):
            tls.write(bytes([octet]))
        with trio.fail_after(10):
            session.receive_data(await until_done(lambda: tls.read(4096)))
    response: Any = session.next_event()
    assert response.data == Size(len(BODY))


# -- whose certificate


async def test_the_certificate_is_chosen_by_the_name_asked_for_else_the_first(house: House) -> None:
    _, endpoint = await house.serve(Store(), house.issue("a.example"), house.issue("b.example"))
    context = ssl.create_default_context()
    house.authority.configure_trust(context)
    context.check_hostname = False
    for asked, expected in (
        ("b.example", "b.example"),
        ("B.EXAMPLE", "b.example"),
        ("c.example", "a.example"),
        (None, "a.example"),
    ):
        certificate = await trio.to_thread.run_sync(shown, endpoint, asked, context)
        assert certificate["subjectAltName"] == (("DNS", expected),), asked
    assert (await (await house.client(endpoint, "b.example")).ask(QuerySize(KEY))).data == Size(len(BODY))


async def test_a_changed_certificate_is_shown_to_the_next_who_connects(house: House) -> None:
    _, endpoint = await house.serve(Store(), house.issue("isp.example"), house.issue("second.example"))
    before = await house.client(endpoint, "isp.example")
    house.issue("new.example", file="isp.example")
    with refused("certificate"):
        await house.client(endpoint, "new.example")
    house.now += 1.0
    await (await house.client(endpoint, "new.example")).ask(QuerySize(KEY))
    assert (await before.ask(QuerySize(KEY))).data == Size(len(BODY)), "sessions that stand are not disturbed"
    await (await house.client(endpoint, "second.example")).ask(QuerySize(KEY))


@pytest.mark.parametrize("harm", ["other key", "no PEM", "gone", "empty"])
async def test_a_broken_new_pair_leaves_the_old_one_in_force(house: House, harm: str) -> None:
    pair = house.issue("isp.example")
    _, endpoint = await house.serve(Store(), pair)
    good = pair.key.read_bytes()
    if harm == "other key":
        trustme.CA().issue_cert("isp.example").private_key_pem.write_to_path(str(pair.key))
    elif harm == "no PEM":
        pair.certificate.write_text("certificate")
    elif harm == "gone":
        pair.key.unlink()
    else:
        pair.key.write_bytes(b"")
    for _ in range(3):
        house.now += 1.0
        await (await house.client(endpoint, "isp.example")).ask(QuerySize(KEY))
    assert [event for event, _ in house.log.lines] == ["certificate not read"], "told once"
    assert list(house.certificates.broken) == [str(pair.certificate)]
    assert "the last good certificate stays in force" in house.certificates.broken[str(pair.certificate)]
    if harm != "no PEM":
        pair.key.write_bytes(good)
        house.certificates.look()
        assert house.certificates.broken == {}


# -- whom a client believes


async def test_another_name_than_the_one_asked_for_is_refused(house: House) -> None:
    _, endpoint = await house.serve(Store(), house.issue("mx.provider.example", "*.pool.example"))
    with refused("isp.example.*Hostname mismatch"):
        await house.client(endpoint, "isp.example")
    await (await house.client(endpoint, "x.pool.example")).aclose()


async def test_an_expired_certificate_is_refused(house: House) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    _, endpoint = await house.serve(Store(), house.issue("isp.example", not_after=past))
    with refused("certificate has expired"):
        await house.client(endpoint, "isp.example")


async def test_an_authority_that_nobody_knows_is_refused(house: House) -> None:
    _, endpoint = await house.serve(Store(), house.issue("isp.example"))
    house.authority = trustme.CA()
    with refused("unable to get local issuer certificate"):
        await house.client(endpoint, "isp.example")


async def test_tls_1_1_is_refused_by_both_sides(house: House) -> None:
    _, endpoint = await house.serve(Store(), house.issue("isp.example"))
    old = ssl.create_default_context()
    house.authority.configure_trust(old)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        await trio.to_thread.run_sync(shown, endpoint, "isp.example", old)
    assert system_context().minimum_version is ssl.TLSVersion.TLSv1_2


async def test_tls_1_2_is_enough(house: House) -> None:
    _, endpoint = await house.serve(Store(), house.issue("isp.example"))
    context = house.trust()()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = await house.connect(Agent((endpoint,), "isp.example", tls=True), lambda: context)
    assert (await client.ask(Retrieve(KEY, View.all, 0, len(BODY)))).data.data == BODY


async def test_a_server_without_tls_where_it_must_be_is_refused(house: House) -> None:
    listener = await listen(Endpoint("127.0.0.1", 0))
    server = PduServer(MSRAP, Store(), Limits(0, 0, lambda address: False), house.log)
    house.nursery.start_soon(server.run, [listener])
    with refused("no TLS"):
        await house.client(bound(listener), "isp.example")


async def test_where_policy_allows_the_clear_endpoint_comes_last(house: House) -> None:
    store = Store()
    _, secure = await house.serve(store, house.issue("other.example"))
    listener = await listen(Endpoint("127.0.0.1", 0))
    server = PduServer(MSRAP, store, Limits(0, 0, lambda address: False), house.log)
    house.nursery.start_soon(server.run, [listener])
    agent = Agent((secure,), "isp.example", tls=True, clear=(bound(listener),))
    client = await house.connect(agent, house.trust())
    await client.ask(QuerySize(KEY))
    assert [peer.tls for peer in store.peers] == [True, False], "the first ended in its handshake"
    assert "Hostname mismatch" in client.fell_back


# -- what strangers try


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x04\x30\x00\x30\x00",
        b"\x16\x03\x01\x40\x00" + b"\x01\x00\x3f\xfc" + b"\xff" * 0x3FFC,
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x80" * 70_000,
    ],
)
async def test_garbage_instead_of_a_handshake_ends_that_session_alone(house: House, octets: bytes) -> None:
    server, endpoint = await house.serve(Store(), house.issue("isp.example"))
    good = await house.client(endpoint, "isp.example")
    stream = await dial(endpoint)
    with trio.fail_after(10):
        try:
            await stream.send_all(octets)
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
    await stream.aclose()
    assert (await good.ask(QuerySize(KEY))).data == Size(len(BODY))
    while server.sessions > 1:
        await trio.testing.wait_all_tasks_blocked()
    assert [event for event, _ in house.log.lines] == ["no TLS"]


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_a_handshake_that_stops_is_ended_after_30_seconds(
    house: House, mock_clock: MockClock, said: bytes
) -> None:
    server, endpoint = await house.serve(Store(), house.issue("isp.example"))
    stream = await dial(endpoint)
    await stream.send_all(said)
    while not server.sessions:
        await trio.testing.wait_all_tasks_blocked(0.01)
    for second in range(1, 33):
        mock_clock.jump(1.0)
        await trio.testing.wait_all_tasks_blocked(0.001)
        if second == 29:
            assert server.sessions == 1
    assert server.sessions == 0
    assert await stream.receive_some() == b"", "and it is told nothing"
    await stream.aclose()


async def test_octets_that_drip_do_not_lengthen_the_handshake(house: House, mock_clock: MockClock) -> None:
    server, endpoint = await house.serve(Store(), house.issue("isp.example"))
    stream = await dial(endpoint)
    for _ in range(33):
        try:
            await stream.send_all(
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[:1] if server.sessions == 0 else b"\x03"
            )
        except trio.BrokenResourceError:
            break
        mock_clock.jump(1.0)
        await trio.testing.wait_all_tasks_blocked(0.001)
    await stream.aclose()
    assert server.sessions == 0


async def test_a_connection_cut_without_a_goodbye_is_an_end(house: House) -> None:
    server, endpoint = await house.serve(Store(), house.issue("isp.example"))
    client = await house.client(endpoint, "isp.example")
    await client.ask(QuerySize(KEY))
    await client.aclose()  # forcefully: no close_notify
    with trio.fail_after(5):
        while server.sessions:
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert house.log.lines == []


# -- the pool of sessions to agents


async def told(pool: Pool, agent: Agent) -> Heard:
    done, heard = trio.Event(), list[Heard]()

    def hear(answer: Heard) -> None:
        heard.append(answer)
        done.set()

    pool.send(agent, "main", [NOTIFICATION], hear, redirect=False)
    with trio.fail_after(10):
        await done.wait()
    return heard[0]


async def test_notifications_go_over_tls_on_sessions_that_are_kept(house: House) -> None:
    rna = Rna()
    server, endpoint = await house.serve(rna, house.issue("isp.example"), protocol=RNASP)
    pool = Pool(dial, house.nursery, name="mx.example", trust=house.trust())
    agent = Agent((endpoint,), "isp.example", tls=True)
    for count in (1, 2, 3):
        assert await told(pool, agent) == Status2004(received=True)
        assert (rna.taken, server.sessions, pool.idle(agent, "main")) == (count, 1, 1)


async def test_a_session_proved_for_one_domain_carries_nothing_for_another(house: House) -> None:
    rna = Rna()
    _, endpoint = await house.serve(rna, house.issue("isp.example"), protocol=RNASP)
    pool = Pool(dial, house.nursery, name="mx.example", trust=house.trust())
    assert await told(pool, Agent((endpoint,), "isp.example", tls=True)) == Status2004(received=True)
    lost = await told(pool, Agent((endpoint,), "other.example", tls=True))
    assert isinstance(lost, Lost)
    assert "Hostname mismatch" in lost.text
    assert rna.taken == 1


async def test_a_session_closed_under_our_feet_is_repeated_once(house: House) -> None:
    """A peer that ends the second command of each session instead of answering it."""
    rna = Rna()
    pair = house.issue("isp.example")
    context = load_pair(pair.certificate, pair.key)
    connections = 0

    async def fickle(plain: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        secure = trio.SSLStream(plain, context, server_side=True)
        session, served = ServerSession(RNASP), False
        while data := await secure.receive_some():
            session.receive_data(bytes(data))
            if session.next_event() is NEED_DATA:
                continue
            if served:
                await trio.aclose_forcefully(secure)
                return
            served = True
            rna.taken += 1
            await secure.send_all(session.send(Answer(False, Status.noerror, NotifyAnswer())))

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    house.nursery.start_soon(trio.serve_listeners, fickle, [listener])
    pool = Pool(dial, house.nursery, name="mx.example", trust=house.trust())
    agent = Agent((bound(listener),), "isp.example", tls=True)
    assert await told(pool, agent) == Status2004(received=True)
    assert await told(pool, agent) == Status2004(received=True)
    assert (rna.taken, connections) == (2, 2)


async def test_a_handshake_that_the_server_never_answers_is_given_up(house: House, mock_clock: MockClock) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    pool = Pool(dial, house.nursery, name="mx.example", trust=house.trust())
    heard: list[Heard] = []
    pool.send(Agent((bound(listener),), "isp.example", tls=True), "main", [NOTIFICATION], heard.append, redirect=False)
    for _ in range(16):
        await trio.testing.wait_all_tasks_blocked(0.005)
        mock_clock.jump(1.0)
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert [type(answer) for answer in heard] == [Lost]
    assert pool.sessions == 0
    await listener.aclose()
