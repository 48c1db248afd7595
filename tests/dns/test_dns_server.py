"""The server over real sockets, asked by software that is not ours: dig, kdig, unbound, dnspython."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest
import trio

from forwarder.dns.answer import Answerer
from forwarder.dns.rate import AnswerRate, network_of
from forwarder.dns.serve import Limits, open_listeners
from forwarder.dns.zone import Zone, ZoneFacts
from forwarder.model import Endpoint, Mailbox, format_user_record, user_label, user_record_line

from ..program.ports import free_port  # noqa: TID252  # one way to pick a port, for all tests

Start = Callable[..., Awaitable[Endpoint]]
BRIAN = f"{user_label('brian')}._im2000-user.pobox.example"
TARGETS = ['"v=im2k1; to=bob@isp.example; g=1"', '"v=im2k1; to=brian@home.example; g=2"']


def program(name: str) -> str:
    found = shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
    if not found:
        pytest.skip(f"{name} IS NOT INSTALLED: the DNS was not tried with it")
    return found


async def output(*command: str) -> str:
    with trio.fail_after(20):
        done = await trio.run_process(command, capture_stdout=True)
    return done.stdout.decode()


@pytest.mark.parametrize("tool", ["dig", "kdig"])
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
async def test_others_tools_read_our_answers(facts: ZoneFacts, start: Start, tool: str, transport: str) -> None:
    endpoint = await start(Answerer([Zone(facts)]))
    at = (program(tool), "@" + endpoint.address, "-p", str(endpoint.port), transport)
    assert sorted((await output(*at, "+short", BRIAN, "TXT")).splitlines()) == TARGETS
    srv = await output(*at, "+short", "_im2000-rnasp._tcp.pobox.example", "SRV")
    assert srv.strip() == "0 0 7101 mx1.pobox.example."
    nobody = await output(*at, "nobody.pobox.example", "A")
    assert "NXDOMAIN" in nobody
    assert "host\\.master.pobox.example." in nobody
    assert "WARNING" not in nobody.replace("recursion requested but not available", "").replace(";; WARNING: \n", "")


async def test_a_resolver_of_the_world_finds_our_users(
    facts: ZoneFacts, delegated: ZoneFacts, start: Start, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """unbound, which asks with changing case, minimised names and EDNS, and judges what it gets."""
    unbound = program("unbound")
    ours = await start(Answerer([Zone(replace(facts, domain="serve.example")), Zone(delegated)]))
    port = free_port()
    stubs = "".join(
        f'stub-zone:\n  name: "{name}"\n  stub-addr: {ours.address}@{ours.port}\n'
        for name in ("serve.example", "_im2000-user.pobox.example")
    )
    settings = f"""server:
  interface: 127.0.0.1
  port: {port}
  username: ""
  chroot: ""
  directory: "{tmp_path}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  do-not-query-localhost: no
  use-caps-for-id: yes
  qname-minimisation-strict: yes
  module-config: "iterator"
  num-threads: 1
{stubs}"""
    (tmp_path / "unbound.conf").write_text(settings)
    command = [unbound, "-d", "-c", str(tmp_path / "unbound.conf")]
    quiet = partial(trio.run_process, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    process = await nursery.start(quiet, command)

    async def ask(name: str, rdtype: str) -> dns.message.Message:
        query = dns.message.make_query(name, rdtype)
        for _ in range(100):
            try:
                return await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=0.2)
            except (dns.exception.Timeout, OSError):
                continue
        raise AssertionError("unbound does not answer")

    with trio.fail_after(30):
        found = await ask(BRIAN, "TXT")
        assert sorted(str(rdata) for rdata in found.answer[0]) == TARGETS
        other = await ask(f"{user_label('who')}._im2000-user.pobox.example", "TXT")
        assert "to=lost@isp.example" in str(other.answer[0][0])
        srv = await ask("_im2000-rnasp._tcp.serve.example", "SRV")
        assert srv.answer[0][0].port == 7101
        assert (await ask("_im2000-rnaqp._tcp.serve.example", "SRV")).rcode() == dns.rcode.NXDOMAIN
        assert (await ask("_tcp.serve.example", "SRV")).rcode() == dns.rcode.NOERROR
    process.terminate()


async def test_a_long_answer_comes_by_tcp(facts: ZoneFacts, start: Start) -> None:
    targets = [Mailbox("x" * 100 + str(n), "isp.example") for n in range(10)]
    lines = [user_record_line(user_label("many"), format_user_record(to)) for to in targets]
    at = await start(Answerer([Zone(replace(facts, records=lines))]))
    query = dns.message.make_query(f"{user_label('many')}._im2000-user.pobox.example", "TXT")
    with trio.fail_after(5):
        answer, by_tcp = await dns.asyncquery.udp_with_fallback(query, at.address, port=at.port, timeout=5)
    assert by_tcp
    assert len(answer.answer[0]) == 10


async def converse(at: Endpoint, sent: bytes) -> bytes:
    """What comes back until the server ends the connection."""
    stream = await trio.open_tcp_stream(at.address, at.port)
    async with stream:
        await stream.send_all(sent)
        received = b""
        try:
            while more := await stream.receive_some():
                received += more
        except trio.BrokenResourceError:
            pass
        return received


def framed(name: str) -> bytes:
    wire = dns.message.make_query(name, "SOA").to_wire()
    return len(wire).to_bytes(2, "big") + wire


async def test_several_queries_may_share_a_connection_in_any_pieces(facts: ZoneFacts, start: Start) -> None:
    at = await start(Answerer([Zone(facts)]))
    with trio.fail_after(5):
        async with await trio.open_tcp_stream(at.address, at.port) as stream:
            for octet in framed("pobox.example"):
                await stream.send_all(bytes([octet]))
            await stream.send_all(framed("pobox.example") * 3)
            received = b""
            while received.count(b"elsewhere") + received.count(b"master") < 4:
                received += await stream.receive_some()


@pytest.mark.parametrize(
    "sent",
    [b"", b"\0", b"\0\x20abc", framed("pobox.example")],  # the last has an id of its own in each process
    ids=["nothing", "half a length", "half a query", "a query"],
)
async def test_an_idle_client_is_hung_up_on(facts: ZoneFacts, start: Start, sent: bytes) -> None:
    at = await start(Answerer([Zone(facts)]), Limits(idle=0.05, deadline=0.05))
    with trio.fail_after(5):
        received = await converse(at, sent)
    assert bool(received) == (len(sent) > 10)


@pytest.mark.parametrize("sent", [b"\xff\xff", b"\0\0", b"\0\x02ab", b"GET / HTTP/1.1\r\n\r\n"])
async def test_what_is_no_dns_ends_the_connection(facts: ZoneFacts, start: Start, sent: bytes) -> None:
    at = await start(Answerer([Zone(facts)]))
    with trio.fail_after(5):
        assert await converse(at, sent) == b""


async def test_connections_are_bounded_and_udp_goes_on(facts: ZoneFacts, start: Start) -> None:
    at = await start(Answerer([Zone(facts)]), Limits(connections_per_network=2))
    query = framed("pobox.example")
    with trio.fail_after(5):
        streams = [await trio.open_tcp_stream(at.address, at.port) for _ in range(2)]
        for stream in streams:
            await stream.send_all(query)
            assert await stream.receive_some()
        assert await converse(at, query) == b""
        assert (await dns.asyncquery.udp(dns.message.make_query("pobox.example", "SOA"), *at[:1], port=at.port)).answer
        for stream in streams:
            await stream.aclose()


async def test_over_its_rate_a_network_is_sent_to_tcp(facts: ZoneFacts, start: Start) -> None:
    at = await start(Answerer([Zone(facts)]), per_second=5)
    wire = dns.message.make_query("pobox.example", "SOA").to_wire()
    answers = []
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as udp:
        for _ in range(60):
            await udp.sendto(wire, at)
        with trio.move_on_after(0.3):
            while True:
                answers.append(dns.message.from_wire(await udp.recv(4096)))
    full = [answer for answer in answers if answer.answer]
    slips = [answer for answer in answers if answer.flags & dns.flags.TC]
    assert 5 <= len(full) <= 10  # the second may have turned
    assert len(answers) == len(full) + len(slips) < 40
    assert len(slips) >= 20


def test_rates_are_counted_by_network_and_not_for_the_trusted() -> None:
    import ipaddress

    rate = AnswerRate(1, [ipaddress.ip_network("192.0.2.0/24")])
    assert [rate.verdict("198.51.100.1", 0.1), rate.verdict("198.51.100.2", 0.2)] == ["answer", "slip"]
    assert [rate.verdict("198.51.100.1", 0.9), rate.verdict("198.51.100.1", 1.0)] == ["drop", "answer"]
    assert {rate.verdict("192.0.2.1", 5.0) for _ in range(9)} == {"answer"}
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:3::1") != network_of("2001:db8:1:102::1")
    assert network_of("::ffff:192.0.2.1") == network_of("::ffff:192.0.2.9")


async def test_a_free_port_is_the_same_for_udp_and_tcp_and_is_given_back() -> None:
    (listener,) = await open_listeners([Endpoint("127.0.0.1", 0)])
    try:
        assert listener.udp.getsockname() == listener.tcp.socket.getsockname() == listener.endpoint
        with pytest.raises(OSError, match="in use"):
            await open_listeners([Endpoint("127.0.0.1", 0), listener.endpoint])
    finally:
        listener.close()
    (again,) = await open_listeners([listener.endpoint])
    again.close()


async def test_a_bug_costs_one_packet(facts: ZoneFacts, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = Answerer([Zone(facts)])
    at = await start(answerer)
    query = dns.message.make_query("pobox.example", "SOA")
    working = Answerer.answer_udp

    def once(self: Answerer, packet: bytes) -> bytes | None:
        monkeypatch.setattr(Answerer, "answer_udp", working)
        raise RuntimeError("a bug")

    monkeypatch.setattr(Answerer, "answer_udp", once)
    with trio.fail_after(5):
        with pytest.raises(dns.exception.Timeout):
            await dns.asyncquery.udp(query, at.address, port=at.port, timeout=0.1)
        assert (await dns.asyncquery.udp(query, at.address, port=at.port, timeout=2)).answer
