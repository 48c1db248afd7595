"""What an agent tells whom: detection by PDU (protocol 5.0). The dispatcher behind it answers by script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from forwarder.model import FEATURES, Notification, Outcome, Peer, ServiceLocation, parse_mailbox
from forwarder.services.rnasp import Rnasp
from forwarder.wire.rnasp import Capabilities, Notify, NotifyAnswer, Null, Response, Status

PEER = Peer("192.0.2.9", 1000)
OURS = Capabilities(1, FEATURES, "mx.pobox.example")


def one(key: int) -> Notification:
    store = ServiceLocation("store.example")
    return Notification(store, None, parse_mailbox("brian@pobox.example"), key.to_bytes(16, "big"), "toby")


class Scripted:
    """In the dispatcher's place: the key's number is the code."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []

    def receive(self, notifications: Sequence[Notification], peer: Peer, answer: Any) -> None:
        self.peers.append(peer)
        outcomes = [Outcome(int.from_bytes(n.identifier, "big")) for n in notifications]
        answer(outcomes, any(outcome.code >= 32 for outcome in outcomes) and "results" not in peer.features)


class Agent:
    def __init__(self) -> None:
        self.behind = Scripted()
        self._service = Rnasp(self.behind, name="mx.pobox.example")  # type: ignore[arg-type]

    def told(self, *codes: int, can: str | None = None) -> Response:
        said: list[Response] = []
        capabilities = None if can is None else Capabilities(1, frozenset(can.split()), "node.example")
        self._service.receive(Notify(tuple(map(one, codes)), capabilities), PEER, said.append)
        [response] = said
        return response


@pytest.fixture
def agent() -> Agent:
    return Agent()


def received(*codes: int, results: bool = True) -> Response:
    outcomes = tuple(map(Outcome, codes)) if results else None
    return Response(False, Status.noerror, NotifyAnswer(outcomes, OURS))


def test_who_says_nothing_of_himself_is_told_nothing_of_us(agent: Agent) -> None:
    assert agent.told(0) == Response(False, Status.noerror, NotifyAnswer(None, None))
    assert agent.told() == Response(False, Status.noerror, NotifyAnswer(None, None))
    assert agent.told(32) == Response(True, Status.errorinternalproblem, Null())


def test_results_stand_in_the_order_of_the_command_whatever_the_codes(agent: Agent) -> None:
    assert agent.told(48, 0, 33, can="results") == received(48, 0, 33)


def test_who_asks_for_no_results_gets_one_status_and_our_capabilities(agent: Agent) -> None:
    assert agent.told(0, 1, can="trace") == received(results=False)
    assert agent.told(32, can="trace") == Response(True, Status.errorinternalproblem, Null())


def test_a_probe_is_an_empty_batch(agent: Agent) -> None:
    assert agent.told(can="results redirect trace") == received()


def test_capabilities_are_those_of_their_own_pdu(agent: Agent) -> None:
    """A session may be shared by programs of two ages."""
    assert agent.told(48, can="results") == received(48)
    assert agent.told(48) == Response(True, Status.errorinternalproblem, Null())
    assert agent.told(0) == Response(False, Status.noerror, NotifyAnswer(None, None))
    assert [peer.features for peer in agent.behind.peers] == [{"results"}, frozenset(), frozenset()]


def test_a_redirect_is_offered_only_to_who_can_be_told_of_it(agent: Agent) -> None:
    agent.told(0, can="results redirect moved")
    agent.told(0, can="redirect moved")
    assert [sorted(peer.features) for peer in agent.behind.peers] == [["moved", "redirect", "results"], ["moved"]]


def test_who_it_is_comes_from_the_socket_its_name_from_itself(agent: Agent) -> None:
    agent.told(0, can="results")
    [peer] = agent.behind.peers
    assert (peer.address, peer.port, peer.name) == ("192.0.2.9", 1000, "node.example")
