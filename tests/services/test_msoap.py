"""MSOAP: an originator submits, tracks and cancels (protocol 3.2, 4)."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from forwarder.model import Mailbox, Peer, parse_mailbox
from forwarder.ports import Copy
from forwarder.storage.bodies import SMALL, Upload
from forwarder.store.letters import letter
from forwarder.wire import msoap
from forwarder.wire.msoap import (
    Cancel,
    Cancelled,
    ChunkAnswer,
    DeliveryStatus,
    EnvelopeAnswer,
    NotificationStatus,
    ReadStatus,
    SubmissionStatus,
    SubmitEnvelope,
    SubmitMsgChunk,
    Track,
    Tracked,
)
from forwarder.wire.msrap import QuerySize
from forwarder.wire.notification import decode_notification
from forwarder.wire.rnaqp import Authenticate

from .store_house import DAY, RULES, StoreHouse, Talk

BRIAN, BOB = parse_mailbox("brian@pobox.example"), parse_mailbox("bob@pobox.example")
ENVELOPE = SubmitEnvelope((BRIAN, BOB), (), DAY)
ACCEPTABLE, DENIED = SubmissionStatus.acceptable, SubmissionStatus.submissionaccessdenied


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[StoreHouse]:
    made = StoreHouse(tmp_path)
    await made.start(nursery)
    yield made
    await made.database.close()


def spool(house: StoreHouse) -> int:
    return sum(1 for _ in (house.files / "spool").iterdir())


async def test_an_envelope_then_chunks_then_keys_in_the_recipients_order(house: StoreHouse) -> None:
    talk = await house.originator()
    assert (await talk.say(ENVELOPE)).data == EnvelopeAnswer((ACCEPTABLE, ACCEPTABLE), ())
    assert (await talk.say(SubmitMsgChunk(False, 0, b"From: Toby <toby@home.example>\r\n"))).data == ChunkAnswer()
    answer = await talk.say(SubmitMsgChunk(True, 32, b"\r\nhello"))
    due = (await house.messages.due(9, ()))[0]
    assert answer.data.identifiers == tuple(key.identifier for key in due)
    assert [key.recipient for key in due] == [BRIAN, BOB]
    letter = decode_notification(due[0].letter)
    assert (letter.sender, letter.size, letter.claimedfrom) == ("toby", 39, parse_mailbox("toby@home.example"))
    assert letter.expires == house.now + DAY


@pytest.mark.parametrize(
    ("name", "password", "port"),
    [("toby", "wrong", 0), ("nobody", "right", 0), ("reader", "right", 0), ("toby", "right", 23)],
)
async def test_who_may_not_originate_is_not_authenticated(
    house: StoreHouse, name: str, password: str, port: int
) -> None:
    talk = Talk(house.msoap.open(Peer("192.0.2.1", port)), msoap)
    for command in (Authenticate(name, password), ENVELOPE, SubmitMsgChunk(True, 0, b""), Track(bytes(16))):
        answer = await talk.say(command)
        assert (answer.status.name, answer.abort) == ("errornotauthenticated", False)


async def test_an_account_taken_away_ends_at_the_next_command(house: StoreHouse) -> None:
    talk = await house.originator()
    await talk.say(ENVELOPE)
    del house.accounts.on["toby"]
    assert (await talk.say(SubmitMsgChunk(True, 0, b"x"))).status.name == "errornotauthenticated"
    assert await house.messages.due(9, ()) == ([], None)


@pytest.mark.parametrize(
    ("envelope", "status"),
    [
        (SubmitEnvelope((), (), DAY), "errornotpermitted"),
        (SubmitEnvelope((BRIAN,), (), 299), "errorlifetimetooshort"),
    ],
)
async def test_an_envelope_for_nobody_or_for_no_time_is_refused(
    house: StoreHouse, envelope: SubmitEnvelope, status: str
) -> None:
    talk = await house.originator()
    answer = await talk.say(envelope)
    assert (answer.status.name, answer.abort) == (status, False)
    assert (await talk.say(SubmitMsgChunk(True, 0, b""))).status.name == "errorunexpectedcommand"


async def test_only_what_is_acceptable_gets_a_key(house: StoreHouse) -> None:
    talk = await house.originator()
    odd = Mailbox("a\x00b", "pobox.example")
    answer = await talk.say(SubmitEnvelope((odd, BRIAN), ("news", "private"), DAY))
    assert answer.data == EnvelopeAnswer((DENIED, ACCEPTABLE), (ACCEPTABLE, DENIED))
    answer = await talk.say(SubmitMsgChunk(True, 0, b"x"))
    assert len(answer.data.identifiers) == 1
    assert answer.data.listidentifier is not None


@pytest.mark.parametrize("chunk", [SubmitMsgChunk(False, 5, b"x"), ENVELOPE])
async def test_a_step_out_of_place_ends_the_submission(
    house: StoreHouse, chunk: SubmitMsgChunk | SubmitEnvelope
) -> None:
    talk = await house.originator()
    await talk.say(ENVELOPE)
    await talk.say(SubmitMsgChunk(False, 0, b"half"))
    answer = await talk.say(chunk)
    assert (answer.status.name, answer.abort) == ("errorunexpectedcommand", True)
    assert spool(house) == 0
    assert (await talk.say(ENVELOPE)).status.name == "noerror"


async def test_a_session_that_ends_takes_its_submission_with_it(house: StoreHouse) -> None:
    talk = await house.originator()
    await talk.say(ENVELOPE)
    await talk.say(SubmitMsgChunk(False, 0, bytes(SMALL + 1)))
    assert spool(house) == 1
    await talk.close()
    assert spool(house) == 0


async def test_too_big_over_quota_and_a_full_disk_have_their_own_answers(
    house: StoreHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, struck = await house.originator(), list[tuple[str, str]]()
    house.msoap.struck = lambda limit, who: struck.append((limit, who))
    for rules, status in ((RULES._replace(max_size=3), 8), (RULES._replace(quota=3), 9)):
        house.msoap.rules = rules
        await talk.say(ENVELOPE)
        assert (await talk.say(SubmitMsgChunk(True, 0, b"four"))).status == status
    assert struck == [("max_size", "toby"), ("quota", "toby")]

    async def full(upload: Upload, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    house.msoap.rules = RULES
    monkeypatch.setattr(Upload, "write", full)
    await talk.say(ENVELOPE)
    assert (await talk.say(SubmitMsgChunk(True, 0, b"four"))).status == 8
    assert spool(house) == 0


async def test_the_limits_of_a_day_are_told_at_the_envelope(house: StoreHouse) -> None:
    house.accounts.limits["toby"] = {"notifications_per_day": 1}
    talk, struck = await house.originator(), list[tuple[str, str]]()
    house.msoap.struck = lambda limit, who: struck.append((limit, who))
    assert (await talk.say(ENVELOPE)).status.name == "errornotpermitted"
    house.accounts.limits["toby"] = {"notifications_per_day": 2, "recipients_per_day": 2}
    await house.submit(b"x", str(BRIAN), str(BOB))
    assert (await talk.say(ENVELOPE)).status.name == "errornotpermitted"
    assert struck == [("limits of the day", "toby")] * 2
    house.now += DAY + 1
    assert (await talk.say(ENVELOPE)).status.name == "noerror"


async def test_a_submission_repeated_after_a_lost_answer_gets_the_first_keys(house: StoreHouse) -> None:
    first = await house.submit(b"x", str(BRIAN))
    assert await house.submit(b"x", str(BRIAN)) == first
    assert await house.submit(b"x", str(BOB)) != first
    assert await house.submit(b"y", str(BRIAN)) != first


async def test_an_account_named_like_an_address_has_no_hold_on_its_copies(house: StoreHouse) -> None:
    """Though it holds the key of one: its reader may have given it away."""
    name = str(BRIAN)
    house.accounts.on[name] = frozenset({"originate"})
    upload = house.copies.upload()
    await upload.write(b"x")
    made = letter(name, 1, upload.sha256, None, house.now + DAY)
    await house.copies.keep(
        upload,
        Copy(
            *("store.example", b"k" * 16, b"source", BRIAN, name, (BOB,), (), False, "after_copy", False),
            *(made, house.now + DAY),
        ),
    )
    ((due,), _) = await house.messages.due(1, ())
    talk = await house.originator(name)
    for command in (Track(due.identifier), Cancel(due.identifier)):
        assert (await talk.say(command)).status.name == "errornotpermitted"
    assert (await house.reader().say(QuerySize(due.identifier))).status.name == "noerror"


async def test_track_and_cancel_are_for_the_accounts_own_keys(house: StoreHouse) -> None:
    (key,) = (await house.submit(b"x", str(BRIAN))).identifiers
    talk, other = await house.originator(), await house.originator("bob")
    unread = DeliveryStatus(NotificationStatus.unprocessed, ReadStatus.unread, True)
    assert (await talk.say(Track(key))).data == Tracked(unread)
    for command in (Track(key), Cancel(key)):
        answer = await other.say(command)
        assert (answer.status.name, answer.abort) == ("errornotpermitted", False)
    assert (await talk.say(Track(bytes(16)))).status.name == "errornotpermitted"
    assert (await talk.say(Cancel(key))).data == Cancelled()
    assert not (await talk.say(Track(key))).data.delivery.pinned
    assert (await talk.say(Cancel(key))).data == Cancelled(), "harmless when repeated"
