"""What an answer's status and flag mean to a reader (protocol 2, 5.0 detection)."""

from __future__ import annotations

import pytest

from forwarder.ports import Gone
from forwarder.reader.calls import Refused, expect
from forwarder.wire.rnaqp import Peeked, Response
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
