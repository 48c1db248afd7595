"""The daemon as a process: its signals, its files while it runs, its crashes, its limits."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from forwarder.wire import msrap, rnasp
from forwarder.wire.notification import decode_notification, encode_notification
from forwarder.wire.session import MSRAP, RNASP, ClientSession

from .node import PATIENCE, Node, running
from .peers import Agent, Client, Reader, eventually, fetch, key, notification, submit


@pytest.fixture
def agent() -> Iterator[Agent]:
    with closing(Agent()) as agent:
        yield agent


@pytest.fixture
def node(tmp_path: Path, agent: Agent) -> Iterator[Node]:
    """Not started: fwd@ to an agent of ours, role@ to two mailboxes there, box@ for brian."""
    node = Node(tmp_path / "config", "pobox.example", _to(agent))
    _fill(node)
    yield node
    node.end()


def _to(agent: Agent) -> dict[str, object]:
    return {'resolve.static."isp.example"': f'{{ rnasp = "127.0.0.1:{agent.port}" }}'}


def _fill(node: Node) -> None:
    node.account("brian")
    node.address("fwd@pobox.example", 'to = ["bob@isp.example"]')
    node.address("role@pobox.example", 'kind = "role"\nto = ["bob@isp.example", "ann@isp.example"]')
    node.address("box@pobox.example", 'strategy = "subscribe"\nreaders = ["brian"]')


def _codes(node: Node, address: str, name: str) -> list[int]:
    with Client(node, "rnasp") as store:
        return store.notify(notification(address, name))


# -- signals


def test_sigterm_ends_what_is_under_way_first(node: Node, agent: Agent) -> None:
    node.start()
    agent.hold()
    with Client(node, "rnasp") as store, Client(node, "rnasp") as idle:
        assert idle.notify() == []
        store.send(rnasp.Notify((notification("fwd@pobox.example", "under way"),), rnasp.Capabilities(1, frozenset())))
        agent.hears(1)
        node.send_signal(signal.SIGTERM)
        node.event("draining")
        assert idle.last_word() == (True, rnasp.Status.errorserviceshutdown), "an idle session ends now"
        with pytest.raises(ConnectionError):
            eventually(lambda: node.connect("rnasp").close())
        agent.release()
        assert store.hear().status == rnasp.Status.noerror
    assert node.ended() == 0
    assert node.event("drained")["in_time"] is True
    assert not (node.folder / "state" / "control.sock").exists()


def test_the_drain_has_an_end(tmp_path: Path, agent: Agent) -> None:
    node = Node(tmp_path / "config", "pobox.example", {**_to(agent), "node.drain": '"1s"'})
    _fill(node)
    with running(node), Client(node, "rnasp") as store:
        agent.hold()
        store.send(rnasp.Notify((notification("fwd@pobox.example", "never"),)))
        agent.hears(1)
        assert node.stop() == 0
        assert store.hear() == rnasp.Response(True, rnasp.Status.errorserviceshutdown)
        assert node.event("drained")["in_time"] is False


def test_sighup_makes_the_files_count(tmp_path: Path, agent: Agent) -> None:
    node = Node(tmp_path / "config", "pobox.example", {**_to(agent), "node.recheck": '"1h"'})
    _fill(node)
    with running(node):
        assert _codes(node, "box@pobox.example", "one") == [0]
        path = node.folder / "addresses" / "pobox.example" / "box.toml"
        path.write_text('strategy = "subscribe"\nreaders = ["brian"]\nstate = "gone"\n')
        assert _codes(node, "box@pobox.example", "two") == [0], "trusted for an hour"
        node.send_signal(signal.SIGHUP)
        node.event("reloaded")
        assert _codes(node, "box@pobox.example", "three") == [48]


# -- one daemon for a state


def test_a_second_daemon_is_refused(node: Node) -> None:
    node.start()
    second = subprocess.run(
        [sys.executable, "-m", "forwarder", "serve", "--config", str(node.folder)],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert second.stderr.count("another forwarder runs on") == 1
    assert "Traceback" not in second.stderr
    assert _codes(node, "box@pobox.example", "still") == [0]
    assert node.stop() == 0


def test_a_full_disk_at_the_start_is_told_in_words(node: Node) -> None:
    """No file may grow past a page or two: what a full disk says to SQLite."""
    small = "import resource as r, sys; r.setrlimit(r.RLIMIT_FSIZE, (6000, 6000)); from forwarder.cli import main; "
    ended = subprocess.run(
        [sys.executable, "-c", f"{small}sys.exit(main(sys.argv[1:]))", "serve", "--config", str(node.folder)],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    [said] = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert said.startswith(f"forwarder: the database in {node.folder / 'state'}: ")
    assert "internal error" not in said


def test_only_its_group_may_ask_it(node: Node) -> None:
    node.start()
    state = node.folder / "state"
    assert stat.S_IMODE((state / "control.sock").stat().st_mode) == 0o660
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert node.stop() == 0


# -- crashes


def test_kill_between_the_answer_and_the_delivery_loses_nothing(node: Node, agent: Agent) -> None:
    node.start()
    agent.hold()
    assert _codes(node, "role@pobox.example", "owed") == [0]
    agent.hears(1)
    node.kill()
    agent.heard.clear()
    agent.release()
    node.start()
    heard = eventually(lambda: {str(n.recipient) for n in agent.heard} == {"bob@isp.example", "ann@isp.example"})
    assert heard
    assert {n.identifier for n in agent.heard} == {key("owed")}
    assert _codes(node, "role@pobox.example", "owed") == [1], "the memory of it survived too"
    assert node.stop() == 0


def test_kill_after_the_answer_of_a_deposit(node: Node) -> None:
    node.start()
    assert _codes(node, "box@pobox.example", "kept") == [0]
    node.kill()
    node.start()
    assert [item.notification.identifier for item in Reader(node, "brian").waiting()] == [key("kept")]
    assert _codes(node, "box@pobox.example", "kept") == [1]
    assert node.stop() == 0


# -- files


def test_a_changed_file_counts_within_recheck(node: Node) -> None:
    node.start()
    assert _codes(node, "box@pobox.example", "0") == [0]
    path = node.folder / "addresses" / "pobox.example" / "box.toml"
    path.write_text('strategy = "subscribe"\nreaders = ["brian"]\nstate = "off"\n')
    eventually(lambda: _codes(node, "box@pobox.example", "0") == [32])
    assert node.stop() == 0


def test_a_new_file_counts_within_recheck(node: Node) -> None:
    node.start()
    assert _codes(node, "late@pobox.example", "0") == [48]
    path = node.folder / "addresses" / "pobox.example" / "late.toml"
    path.write_text('strategy = "subscribe"\nreaders = ["brian"]\n')
    path.chmod(0o640)
    eventually(lambda: _codes(node, "late@pobox.example", "0")[0] < 16)
    assert node.stop() == 0


def test_a_broken_file_never_means_nobody(node: Node) -> None:
    node.address("never@pobox.example", 'strategie = "subscribe"')
    node.start()
    assert _codes(node, "box@pobox.example", "0") == [0]
    assert _codes(node, "never@pobox.example", "0") == [32], "there never was a good version"
    path = node.folder / "addresses" / "pobox.example" / "box.toml"
    path.write_text("strategy = \n")
    eventually(lambda: _codes(node, "box@pobox.example", "1") and "box.toml" in str(node.ask("status")["broken"]))
    assert _codes(node, "box@pobox.example", "2") == [0], "the last good version stays in force"
    broken = " ".join(node.ask("status")["broken"].values())
    assert "never.toml:1: strategie" in broken
    assert "box.toml:1" in broken
    with Client(node, "rnasp") as store:
        assert store.notify(notification("never@pobox.example", "1"), can=None) == [6]
    assert node.stop() == 0


def test_a_domain_that_tells_strangers_nothing(node: Node) -> None:
    domain = node.folder / "domains" / "pobox.example.toml"
    domain.write_text('unknown = "accept"\n')
    node.start()
    assert _codes(node, "no.such.person@pobox.example", "0") == [0]
    with Client(node, "rnasp") as store:
        assert store.notify(notification("no.such.person@pobox.example", "1"), can=None) == [0]
    assert _codes(node, "box@not.ours.example", "2") == [49]
    assert node.stop() == 0


# -- limits


def test_a_thousand_idle_connections_harm_nobody(node: Node) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    node.start()
    idle = [node.connect("rnasp") for _ in range(1000)]
    try:
        assert eventually(lambda: node.ask("status")["sessions"]["rnasp"] == 1000)
        assert _codes(node, "fwd@pobox.example", "among them") == [0]
        with Client(node, "rnasp") as late:
            assert late.notify() == []
    finally:
        for connection in idle:
            connection.close()
    assert eventually(lambda: node.ask("status")["sessions"]["rnasp"] == 0)
    assert node.stop() == 0


def test_sessions_of_one_address_are_capped(tmp_path: Path, agent: Agent) -> None:
    settings = {**_to(agent), "network.trusted": "[]", "limits.sessions_per_address": "3"}
    node = Node(tmp_path / "config", "pobox.example", settings)
    _fill(node)
    with running(node):
        three = [Client(node, "rnasp") for _ in range(3)]
        assert [client.notify() for client in three] == [[], [], []]
        with Client(node, "rnasp") as fourth:
            assert fourth.ask(rnasp.Notify(())) == rnasp.Response(True, rnasp.Status.errorserviceshutdown)
        with Client(node, "rnasp", source="127.0.0.2") as other:
            assert other.notify() == []
        assert node.ask("status")["limits"]["sessions_per_address"] == 1
        for client in three:
            client.socket.close()
        eventually(lambda: node.ask("status")["sessions"]["rnasp"] == 0)
        with Client(node, "rnasp") as again:
            assert again.notify() == []
        assert node.stop() == 0


def test_too_many_notifications_from_one_address(tmp_path: Path, agent: Agent) -> None:
    settings = {**_to(agent), "network.trusted": "[]", "limits.submitter_rate": "1"}
    node = Node(tmp_path / "config", "pobox.example", settings)
    _fill(node)
    with running(node), Client(node, "rnasp") as store:
        batch = [notification("box@pobox.example", str(number)) for number in range(10)]
        assert store.notify(*batch) == [0] * 10
        response = store.ask(
            rnasp.Notify((notification("box@pobox.example", "more"),), rnasp.Capabilities(1, frozenset({"results"})))
        )
        [outcome] = response.data.results
        assert (outcome.code, outcome.retryafter) == (35, 300)
        assert outcome.text == "over the limit submitter_rate"
        assert node.ask("status")["limits"]["submitter_rate"] >= 1
        assert node.stop() == 0


def test_who_floods_while_he_waits_costs_no_memory(node: Node, agent: Agent) -> None:
    node.start()
    agent.hold()
    with Client(node, "rnasp") as store:
        store.send(rnasp.Notify((notification("fwd@pobox.example", "waits"),)))
        agent.hears(1)
        before = _resident(node)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            _flood(store.socket)
        assert _resident(node) - before < 8 << 20
    agent.release()
    assert node.stop() == 0


def _flood(connection: socket.socket) -> None:
    for _ in range(64):
        connection.sendall(bytes(1 << 20))


def _resident(node: Node) -> int:
    pages = int(Path(f"/proc/{node.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_half_a_pdu_delays_nobody_and_the_drain_does_not_wait_for_it(node: Node) -> None:
    node.start()
    with closing(node.connect("rnasp")) as slow, closing(node.connect("msoap")) as other:
        slow.sendall(b"\x00\x00\x00\x55\xa1")
        other.sendall(b"\x00")
        assert _codes(node, "box@pobox.example", "0") == [0]
        assert node.stop() == 0


def test_a_peer_that_resets_is_no_news(node: Node, agent: Agent) -> None:
    node.start()
    agent.hold()
    store = Client(node, "rnasp")
    store.send(rnasp.Notify((notification("fwd@pobox.example", "reset"),)))
    agent.hears(1)
    store.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    store.socket.close()
    agent.release()
    eventually(lambda: node.ask("status")["sessions"]["rnasp"] == 0)
    assert _codes(node, "fwd@pobox.example", "after") == [0]
    assert not any("failed" in str(record["event"]) for record in node.log)
    assert node.stop() == 0


def test_who_asks_and_never_reads_costs_one_answer(node: Node) -> None:
    node.start()
    identifier = submit(node, "brian", "box@pobox.example", b"Subject: big\r\n\r\n" + bytes(1 << 20))
    wire = ClientSession(MSRAP)
    command = wire.send(msrap.Retrieve(identifier, msrap.View.all, 0, 1 << 20))
    with closing(node.connect("msrap")) as greedy:
        greedy.sendall(command * 100)
        for _ in range(20):
            assert fetch(node, identifier) is not None, "others are served"
        retrieves = node.ask("status")["store"]["retrieves"]["stranger"]
        assert retrieves < 20 + 30, "what the kernel has room for, and one"
    assert node.stop() == 0


def test_who_pings_and_never_reads_is_cut_off(node: Node) -> None:
    node.start()
    ping = ClientSession(RNASP).send(rnasp.Notify(()))
    with closing(node.connect("rnasp")) as deaf:
        before = _resident(node)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            _repeat(deaf, ping * 50_000)
        assert _resident(node) - before < 8 << 20
    assert node.stop() == 0


def _repeat(connection: socket.socket, octets: bytes) -> None:
    for _ in range(40):
        connection.sendall(octets)


def test_what_can_never_be_passed_on_is_refused_and_leaves_no_row_that_stops_a_start(node: Node, agent: Agent) -> None:
    """More unknown octets than may be passed on (4 KiB), in a notification that is good itself."""
    content = encode_notification(notification("role@pobox.example", "swollen"))[2:]
    unknown = b"\x9e\x82" + (5000).to_bytes(2, "big") + bytes(5000)
    swollen = decode_notification(b"\x30\x82" + (len(content) + len(unknown)).to_bytes(2, "big") + content + unknown)
    node.start()
    with Client(node, "rnasp") as store:
        assert store.notify(swollen, notification("box@pobox.example", "beside")) == [49, 0]
        assert store.notify(swollen, notification("role@pobox.example", "good")) == [49, 0]
    agent.hears(2)
    node.kill()
    node.start()
    assert _codes(node, "box@pobox.example", "after") == [0]
    assert node.stop() == 0
