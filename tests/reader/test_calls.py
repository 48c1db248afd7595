"""What an answer's status and flag mean to a reader (protocol 2, 5.0 detection)."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.config.tables import HostPort
from forwarder.ports import Gone, NoService
from forwarder.reader.calls import Calls, Refused, expect
from forwarder.reader.me import Me, Where
from forwarder.wire.rnaqp import Authenticate, Peeked, Response
from forwarder.wire.rnasp import Status


@pytest.mark.parametrize(
    ("abort", "status", "legacy"),
    [
        (True, Status.errormalformedpdu, True),
        (True, Status.errorunexpectedcommand, True),
        (False, Status.errorunexpectedcommand, False),
        (True, Status.errorinternalproblem, False),
        (True, Status.errorcommandtimeout, False),
        (True, Status.noerror, False),
        (False, Status.errornotauthenticated, False),
    ],
)
def test_only_an_abort_over_the_command_itself_means_a_peer_of_2004(abort: bool, status: Status, legacy: bool) -> None:
    with pytest.raises(Refused) as refused:
        expect(Response(abort, status), Peeked, "mx.example")
    assert refused.value.legacy is legacy


def test_no_such_message_is_an_answer_of_its_own() -> None:
    with pytest.raises(Gone):
        expect(Response(False, Status.errornosuchmessage), Peeked, "mx.example")


def calls(world: Any, person: Me, *, allowed: bool) -> Calls:
    own = (world.connect, world.connect, world, lambda: 0.0, person.password)
    return Calls(*own, lambda address: allowed, world.texts)


@pytest.mark.parametrize(("tls", "allowed"), [(True, False), (False, True)])
async def test_a_password_goes_over_tls_or_where_i_allow_it(world: Any, person: Me, tls: bool, allowed: bool) -> None:
    where = Where(HostPort("192.0.2.7", 7103), tls, "mx.example")
    async with calls(world, person, allowed=allowed).own(where, "rnaqp", person.agents[0]):
        assert world.count(Authenticate) == 1


async def test_a_password_goes_to_no_other_in_clear(world: Any, person: Me) -> None:
    where = Where(HostPort("192.0.2.7", 7103), False, "mx.example")
    with pytest.raises(NoService, match="in clear"):
        async with calls(world, person, allowed=False).own(where, "rnaqp", person.agents[0]):
            raise AssertionError("a session was opened")
    assert world.count(Authenticate) == 0
