"""The plugin put together: what it offers, what its options object to, what its services share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from forwarder.bridges import Answer, DomainFacts, ServicePorts
from forwarder.testing import MemoryFailures, MemoryLook, MemorySubmit, make_load, make_service_ports
from forwarder_smtp_bridge import forwarder_carriers, forwarder_services, smarthost_of
from forwarder_smtp_bridge.options import BridgeOptions, objections
from forwarder_smtp_bridge.reporting import Reporting

from .scripted_smarthost import Script
from .test_reporting import failure

SERVICES = {spec.name: spec for spec in forwarder_services()}
(CARRIER,) = forwarder_carriers()
BOX = "box@pobox.example"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "srs.secret"
    path.touch(0o600)
    path.write_text("a secret of ours, long\n")
    return path


def options(**tables: Any) -> BridgeOptions:
    return BridgeOptions.model_validate(tables)


def with_way_out(secret: Path, port: int = 10025) -> BridgeOptions:
    returns = {"domain": "srs.pobox.example", "secret_file": str(secret)}
    return options(smtp_out={"smarthost": f"127.0.0.1:{port}"}, returns=returns)


# -- what it offers


def test_five_services_of_one_table_of_which_one_needs_no_listener() -> None:
    assert list(SERVICES) == ["lmtp", "submission", "postfix_map", "postfix_auth", "smtp_reports"]
    assert {spec.table for spec in SERVICES.values()} == {CARRIER.table} == {"bridge"}
    assert [name for name, spec in SERVICES.items() if spec.always] == ["smtp_reports"]


def test_the_carrier_is_on_offer_where_there_is_a_smarthost() -> None:
    assert not CARRIER.offered(options())
    there = options(smtp_out={"smarthost": "[::1]:10025"})
    assert CARRIER.offered(there)
    assert CARRIER.via(there) == "[::1]:10025"
    assert there.smtp_out is not None
    assert there.smtp_out.place == ("::1", 10025)


@pytest.mark.parametrize(
    ("facts", "takes"),
    [
        (DomainFacts("x.example", mx=("mx.x.example",)), True),
        (DomainFacts("x.example", address=True), True),
        (DomainFacts("x.example"), False),
        (DomainFacts("x.example", null_mx=True), False),
        (DomainFacts("x.example", null_mx=True, address=True), False),
    ],
)
def test_it_takes_domains_that_take_mail(facts: DomainFacts, takes: bool) -> None:
    assert CARRIER.takes(facts) is takes


# -- what is wrong with a table


def objected(said: BridgeOptions) -> dict[str, str]:
    return {objection.key: objection.text for objection in objections(said, Path)}


def test_nothing_is_wrong_with_a_table_that_is_whole(secret: Path) -> None:
    assert not objected(options())
    assert not objected(with_way_out(secret))


def test_a_way_out_needs_return_paths() -> None:
    assert "needs [bridge.returns]" in objected(options(smtp_out={"smarthost": "127.0.0.1:25"}))["smtp_out"]


def test_secrets_that_are_missing_or_open_are_named_with_the_remedy(secret: Path) -> None:
    secret.chmod(0o644)
    assert "chmod 600" in objected(with_way_out(secret))["returns.secret_file"]
    secret.unlink()
    assert "openssl rand" in objected(with_way_out(secret))["returns.secret_file"]


WITHOUT_SRSLIB = """
import sys
sys.modules["srslib"] = None
from pathlib import Path
from forwarder.plugins import load
plugins = load()
assert not plugins.problems, plugins.problems
spec = plugins.services["lmtp"]
assert not spec.objections(spec.options.model_validate({}), Path)
returns = {"returns": {"domain": "srs.pobox.example", "secret_file": sys.argv[1]}}
print([(one.key, one.text) for one in spec.objections(spec.options.model_validate(returns), Path)])
"""


def test_without_the_extra_all_works_but_return_paths_and_check_says_what_to_install(secret: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_SRSLIB, str(secret)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    needs = 'needs srslib, which is not installed: pip install "forwarder[smtp]"'
    assert ran.stdout.strip() == str([("returns", needs)])


# -- one pool of connections for a node


def test_mail_and_reports_share_the_connections_of_a_node(secret: Path) -> None:
    said = with_way_out(secret)
    service_ports, ports = make_service_ports(), make_service_ports()
    assert smarthost_of(said, service_ports) is not None
    kept = smarthost_of(said, service_ports)
    assert smarthost_of(with_way_out(secret), ports) is kept
    assert smarthost_of(said, replace(ports, node="other.example")) is not kept
    assert smarthost_of(with_way_out(secret, 10026), ports) is not kept
    assert smarthost_of(options(), ports) is None


async def test_both_together_have_four_connections_and_leave_them_at_the_end(secret: Path, tmp_path: Path) -> None:
    script, failures = Script(), MemoryFailures(*map(failure, range(12)))
    ports = make_service_ports(failures=failures, scratch=tmp_path)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, script.serve, listeners)
        said = with_way_out(secret, listeners[0].socket.getsockname()[1])
        reporting = SERVICES["smtp_reports"].make(said, ports, [])
        carry = CARRIER.make(said, ports)
        assert isinstance(reporting, Reporting)
        with trio.fail_after(20):
            async with trio.open_nursery() as working:
                working.start_soon(reporting.run, lambda: None)
                async with trio.open_nursery() as carrying:
                    for number in range(12):
                        carrying.start_soon(carry, make_load(number=number))
                await script.received(24)
                while failures.open:
                    await trio.lowlevel.checkpoint()
                reporting.drain()
            while script.open_sessions:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert script.most_at_once <= 4


# -- the services, on sockets


class Running:
    def __init__(self, ports: ServicePorts, address: tuple[str, int]) -> None:
        self.ports, self.address = ports, address

    async def knock(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.address)


@asynccontextmanager
async def running(name: str, said: BridgeOptions, ports: ServicePorts) -> AsyncIterator[Running]:
    """Until a drain that everybody has heard of."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    service = SERVICES[name].make(said, ports, listeners)
    ready = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.run, ready.set)
            await ready.wait()
            yield Running(ports, listeners[0].socket.getsockname()[:2])
            service.drain()


async def heard(stream: trio.SocketStream, *, end: bytes) -> bytes:
    said = b""
    while not said.endswith(end):
        octets = await stream.receive_some()
        assert octets, said
        said += octets
    return said


async def test_lmtp_greets_as_the_node_and_ends_who_is_idle_at_a_drain(secret: Path) -> None:
    async with running("lmtp", with_way_out(secret), make_service_ports()) as service:
        stream = await service.knock()
        assert await heard(stream, end=b"\r\n") == b"220 node.example LMTP\r\n"
    assert (await stream.receive_some()).startswith(b"421 4.3.2")
    await stream.aclose()


async def test_a_drain_lets_a_message_end() -> None:
    look, submit = MemoryLook({BOX: Answer(0)}), MemorySubmit()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    service = SERVICES["lmtp"].make(options(), make_service_ports(look=look, submit=submit), listeners)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.run, lambda: None)
            stream = await trio.open_tcp_stream(*listeners[0].socket.getsockname()[:2])
            await stream.send_all(b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<" + BOX.encode() + b">\r\n")
            await heard(stream, end=b"250 2.1.5 ok\r\n")
            service.drain()
            await stream.send_all(b"DATA\r\n")
            assert (await heard(stream, end=b"\r\n")).startswith(b"354")
            await stream.send_all(b"Subject: x\r\n\r\n.\r\n")
            assert (await heard(stream, end=b"\r\n")).startswith(b"250 2.1.5")
    assert len(submit.taken) == 1
    await stream.aclose()


async def test_submission_asks_whose_the_sender_is() -> None:
    look = MemoryLook({BOX: Answer(0, senders=("brian",))})
    async with running("submission", options(), make_service_ports(look=look)) as service:
        stream = await service.knock()
        await stream.send_all(b"LHLO x\r\nMAIL FROM:<" + BOX.encode() + b">\r\n")
        await heard(stream, end=b"250 2.1.0 ok\r\n")
        await stream.send_all(b"RSET\r\nMAIL FROM:<x@y.example>\r\n")
        assert b"550 5.7.1" in await heard(stream, end=b"sender\r\n")
    await stream.aclose()


async def test_the_map_answers_and_ends_at_a_drain() -> None:
    look = MemoryLook({BOX: Answer(0, senders=("brian", "anna"))})
    async with running("postfix_map", options(), make_service_ports(look=look)) as service:
        stream = await service.knock()
        question = b"logins " + BOX.encode()
        await stream.send_all(b"%d:%s," % (len(question), question))
        assert await heard(stream, end=b",") == b"13:OK brian,anna,"
    assert await stream.receive_some() == b""
    await stream.aclose()


async def test_passwords_are_asked_of_the_node() -> None:
    asked: list[tuple[str, str, str]] = []

    async def verify(account: str, password: str, address: str) -> bool:
        asked.append((account, password, address))
        return True

    async with running("postfix_auth", options(), make_service_ports(verify=verify)) as service:
        stream = await service.knock()
        await heard(stream, end=b"DONE\n")
        await stream.send_all(
            b"VERSION\t1\t1\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\trip=192.0.2.1\tresp=AGJvYgByaWdodA==\n"
        )
        assert (await heard(stream, end=b"\n")).startswith(b"OK\t1")
        await stream.aclose()
    assert asked == [("bob", "right", "192.0.2.1")]
