"""The stranger as a sender with a store of his own: the daemon is notified, fetches, keeps messages for him."""

from __future__ import annotations

import base64
import secrets
import time

import pytest

from . import ed25519
from .conftest import HERE, World
from .module import content, decode, encode
from .notices import at_domain, mailbox, sign
from .wire import Client, Failure

MESSAGE = b"From: toby@stranger.example\r\nSubject: a stranger writes\r\n\r\nhello\r\n"
BRIAN = f"brian@{HERE}"


def keys(world: World) -> list[bytes]:
    return [item["notification"]["identifier"] for item in world.mailbox("brian").waiting()]


def test_a_notification_is_taken_and_shown_whole(world: World) -> None:
    store = world.store("one")
    told = store.notification(BRIAN, MESSAGE, claimedfrom=mailbox("toby@stranger.example"))
    notifier = world.notifier("results")
    [outcome] = notifier.tell([told])
    assert outcome.code == 0
    assert "results" in notifier.heard["features"]
    [shown] = [
        item for item in world.mailbox("brian").waiting() if item["notification"]["identifier"] == told["identifier"]
    ]
    assert content("Notification", shown["notification"]) == content("Notification", told)
    assert shown["submitter"]["address"] == ("version4", bytes([127, 0, 0, 1]))
    assert abs(shown["date"] - time.time()) < 60


def test_a_repeat_is_a_duplicate(world: World) -> None:
    told = world.store("repeat").notification(BRIAN, MESSAGE)
    assert [world.notifier("results").tell([told])[0].code for _ in range(2)] == [0, 1]


def test_a_batch_has_an_outcome_for_each_in_order(world: World) -> None:
    store = world.store("batch")
    expired = store.notification(BRIAN, MESSAGE) | {"expires": int(time.time()) - 5}
    far = [store.notification(BRIAN, MESSAGE, hops=hops) for hops in (9, 8)]
    to = (BRIAN, f"nobody@{HERE}", "brian@elsewhere.example")
    batch = [*(store.notification(one, MESSAGE) for one in to), expired, *far]
    assert [outcome.code for outcome in world.notifier("results", "trace").tell(batch)] == [0, 48, 49, 53, 52, 0]


def test_the_probe_is_answered_by_no_results_and_what_the_daemon_can(world: World) -> None:
    notifier = world.notifier("results")
    assert notifier.tell([]) == []
    assert notifier.heard["version"] == 1
    assert notifier.heard["notifier"] == ["mx", *HERE.split(".")]


def test_one_of_2004_gets_a_status_and_no_extension(world: World) -> None:
    store = world.store("old", legacy=True)
    notifier = world.notifier()
    [taken] = notifier.tell([store.notification(BRIAN, MESSAGE)])
    assert (taken.code, taken.result, notifier.heard) == (0, {}, {})
    [refused] = notifier.tell([store.notification(f"nobody@{HERE}", MESSAGE)])
    assert (refused.code, refused.status) == (None, "errorinternalproblem")


def test_a_batch_of_2004_hides_who_was_refused(world: World) -> None:
    store = world.store("oldbatch", legacy=True)
    batch = [store.notification(to, MESSAGE) for to in (f"nobody@{HERE}", BRIAN)]
    assert [outcome.code for outcome in world.notifier().tell(batch)] == [0, 0]
    assert batch[1]["identifier"] in keys(world)


def test_elements_that_nobody_knows_are_kept_for_the_reader(world: World) -> None:
    told = world.store("strange").notification(BRIAN, MESSAGE)
    raw = content("Notification", told) + bytes.fromhex("9e0568656c6c6f")
    pdu = encode("RNASPPDU", ("command", {"commanddata": ("notify", {"notifications": []})}))
    assert pdu == bytes.fromhex("a106a004a002a000")
    item = bytes([0x30, 0x81, len(raw)]) + raw
    for tag in (0xA0, 0xA0, 0xA0, 0xA1):
        item = bytes([tag, 0x81, len(item)]) + item
    with Client("RNASP", world.where("rnasp")) as session:
        session.answer(session.raw(item), "notify")
    [shown] = [i for i in world.mailbox("brian").waiting() if i["notification"]["identifier"] == told["identifier"]]
    assert shown["notification"].raw == raw


def test_a_good_signature_is_taken_and_a_forged_one_is_51(world: World) -> None:
    secret, store = secrets.token_bytes(32), world.store("signs")
    record = f'"v=im2k1; k=ed25519; p={base64.b64encode(ed25519.public(secret)).decode()}"'
    world.names.records[f"s1._im2000-key.{store.name}", "TXT"] = [record]
    good = sign(store.notification(BRIAN, MESSAGE), secret, "s1", store.name, int(time.time()))
    forged = sign(store.notification(BRIAN, MESSAGE), secrets.token_bytes(32), "s1", store.name, int(time.time()))
    foreign = sign(store.notification(BRIAN, MESSAGE), secret, "s1", "other.example", int(time.time()))
    outcomes = world.notifier("results", "sig").tell([good, forged, foreign])
    assert [outcome.code for outcome in outcomes] == [0, 51, 51]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_copy_is_fetched_from_the_strangers_store_which_is_silenced_and_unpinned(world: World, legacy: bool) -> None:
    name = "pulledold" if legacy else "pulled"
    store, agent = world.store(name, legacy), world.agent(f"{name}to")
    address = world.address(name, f'strategy = "pull_repush"\nto = ["bob@{name}to.stranger.example"]')
    told = store.notification(address, MESSAGE)
    [outcome] = world.notifier(*(() if legacy else ("results",))).tell([told])
    assert outcome.code == 0
    copy = agent.next()
    assert copy["identifier"] != told["identifier"]
    assert (copy["sender"], copy["hops"], copy["trace"][-1]["how"]) == (address, 1, 4)
    assert copy["origin"]["store"] == at_domain(store.name)
    assert world.messages().fetch(copy) == MESSAGE
    world.messages().unpin(copy["identifier"])
    deadline = time.monotonic() + 20
    while store.entries[told["identifier"]].pinned:
        assert time.monotonic() < deadline, store.asked
        time.sleep(0.05)
    assert store.entries[told["identifier"]].silenced


@pytest.mark.parametrize(
    ("octets", "status", "kept"),
    [
        ("00000000", "errormalformedpdu", False),
        ("ffffffff", "errormalformedpdu", False),
        ("00000003a10100", "errormalformedpdu", False),
        ("0000000ca20a800100810100a202a100", "errorunexpectedcommand", True),
        ("00000006a104a002be00", "errorunexpectedcommand", True),
    ],
)
def test_a_bad_command_is_answered_as_5_3_says(world: World, octets: str, status: str, kept: bool) -> None:
    with Client("RNASP", world.where("rnasp")) as session:
        session.sock.sendall(bytes.fromhex(octets))
        size = int.from_bytes(session.sock.recv(4), "big")
        with pytest.raises(Failure) as told:
            session.answer(session.sock.recv(size), "notify")
        assert (told.value.status, told.value.abort) == (status, True)
        if kept:
            session.ask("notify", {"notifications": []})
        else:
            assert session.sock.recv(1) == b""


def test_a_message_goes_from_msoap_to_its_reader_and_track_tells_of_it(world: World) -> None:
    toby = world.originator()
    [key] = toby.submit([BRIAN], MESSAGE)
    brian = world.mailbox("brian")
    deadline = time.monotonic() + 20
    while not (found := [item for item in brian.waiting() if item["notification"]["identifier"] == key]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    notified = found[0]["notification"]
    assert toby.track(key) == {"notificationstatus": "notifying", "read": "unread", "pinned": True, "lastcode": 0}
    store = world.messages()
    assert store.silence(notified)
    assert store.fetch(notified, "summaryonly").endswith(b"\r\n\r\n")
    assert toby.track(key)["read"] == "summarised"
    assert store.fetch(notified) == MESSAGE
    assert store.unpin(key)
    assert not store.unpin(key)
    ended = toby.track(key)
    assert (ended["notificationstatus"], ended["read"], ended["pinned"]) == ("silenced", "readall", False)
    assert decode("Notification", encode("Notification", notified)) == notified


def test_a_cancelled_message_looks_as_if_it_had_never_been(world: World) -> None:
    toby = world.originator()
    [key] = toby.submit([BRIAN], MESSAGE + b"again\r\n")
    toby.cancel(key)
    with pytest.raises(Failure, match="errornosuchmessage"):
        world.messages().slice(key, "nothing", 0, 0)
    assert toby.track(key)["pinned"] is False


def test_the_same_submission_again_gets_the_same_keys(world: World) -> None:
    message = MESSAGE + b"twice\r\n"
    assert world.originator().submit([BRIAN], message) == world.originator().submit([BRIAN], message)


def test_what_msoap_refuses_undoes_the_submission(world: World) -> None:
    session = world.originator().session
    with pytest.raises(Failure, match="errorlifetimetooshort"):
        session.ask("submitenvelope", {"recipients": [mailbox(BRIAN)], "lifetime": 10})
    with pytest.raises(Failure, match="errornotpermitted"):
        session.ask("submitenvelope", {"lifetime": 86400})
    session.ask("submitenvelope", {"recipients": [mailbox(BRIAN)], "lifetime": 86400})
    with pytest.raises(Failure, match="errorunexpectedcommand"):
        session.ask("submitmsgchunk", {"islast": True, "offset": 7, "data": b"x"})
    with pytest.raises(Failure, match="errorunexpectedcommand"):
        session.ask("submitmsgchunk", {"islast": True, "offset": 0, "data": b"x"})


def test_an_outcome_for_each_of_an_envelope_and_a_key_for_each_acceptable(world: World) -> None:
    toby = world.originator()
    recipients = [mailbox(to) for to in (BRIAN, f"a\x01b@{HERE}", BRIAN)]
    envelope = {"recipients": recipients, "lists": ["nobodys"], "lifetime": 3600}
    said = toby.session.ask("submitenvelope", envelope)
    assert said["recipients"] == ["acceptable", "submissionaccessdenied", "acceptable"]
    assert said["lists"] == ["submissionaccessdenied"]
    last = toby.session.ask("submitmsgchunk", {"islast": True, "offset": 0, "data": b""})
    first, second = last["identifiers"]
    assert first != second
    assert world.messages().size(second)["size"] == 0


def test_track_and_cancel_disturb_no_submission(world: World) -> None:
    toby = world.originator()
    [key] = toby.submit([BRIAN], MESSAGE + b"before\r\n")
    toby.session.ask("submitenvelope", {"recipients": [mailbox(BRIAN)], "lifetime": 3600})
    toby.cancel(key)
    toby.cancel(key)
    assert toby.track(key)["pinned"] is False
    last = toby.session.ask("submitmsgchunk", {"islast": True, "offset": 0, "data": MESSAGE + b"after\r\n"})
    assert len(last["identifiers"]) == 1
    with pytest.raises(Failure, match="errornotpermitted"):
        toby.track(bytes(16))
