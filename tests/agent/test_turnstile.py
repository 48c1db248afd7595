"""Whose turn it is: nobody twice at once, and nobody who has had his answer while he stood there."""

from __future__ import annotations

import pytest

from forwarder.agent.owed import Member, Owed, Status, members_state
from forwarder.agent.turnstile import Turnstile
from forwarder.model import parse_mailbox
from forwarder.ports import Debt

from .world import notification


@pytest.mark.parametrize(
    ("status", "again"),
    [(Status.OWED, True), (Status.TAKEN, True), (Status.CARRIED, False), (Status.REFUSED, False)],
)
def test_who_stands_there_twice_is_sent_again_only_if_he_is_still_to_be_told(status: Status, again: bool) -> None:
    told = notification("sales@pobox.example")
    debt = Debt(1, "resend", "e", told.recipient, "s.example", told.identifier, told.raw, 0, members_state(()))
    member = Member(parse_mailbox("bob@isp.example"))
    owed = Owed(debt, told, [member])
    sent: list[Member] = []
    turnstile = Turnstile(lambda owed, member: sent.append(member))
    turnstile.put(owed, [member, member])
    turnstile.turn()
    assert sent == [member], "out once"
    turnstile.put(owed, [member])
    member.status = status
    turnstile.back(member)
    turnstile.turn()
    assert (len(sent) == 2) is again
