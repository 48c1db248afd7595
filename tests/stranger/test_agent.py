"""The stranger as an agent: the daemon passes on to him, redirects and is redirected by him, and loops with him."""

from __future__ import annotations

import base64
import time

import pytest

from ..program.peers import eventually  # noqa: TID252
from .agent import Agent, Forwarder, Here, redirect
from .conftest import HERE, World
from .notices import address, mailbox, verified
from .sender import Notifier, Outcome
from .users import label, targets
from .wire import Failure

MESSAGE = b"From: toby@stranger.example\r\nSubject: a stranger writes\r\n\r\nhello\r\n"
TODAY = ("results", "redirect", "trace")


def passed(world: World, name: str, agent_says: dict[str, object], legacy: bool = False) -> tuple[Outcome, Agent]:
    """What a sender hears of an address that the daemon passes on to an agent which says that."""
    agent = world.agent(name, lambda *_: agent_says, legacy)
    there = world.address(name, f'to = ["bob@{name}.stranger.example"]')
    told = world.store(f"{name}store").notification(there, MESSAGE, token=b"of no concern")
    [outcome] = world.notifier(*TODAY).tell([told])
    return outcome, agent


def test_what_is_passed_on_is_rewritten_as_8_1_says(world: World) -> None:
    outcome, agent = passed(world, "onward", {"code": 0, "retransmit": 604800})
    assert (outcome.code, outcome.result["retransmit"]) == (0, 604800)
    came = agent.next()
    assert address(came["recipient"]) == "bob@onward.stranger.example"
    assert address(came["original"]) == f"onward@{HERE}"
    assert came["hops"] == 1
    [hop] = came["trace"]
    assert (hop["by"], hop["how"], len(hop["rcpt"])) == (["mx", *HERE.split(".")], 3, 8)
    assert "token" not in came
    assert agent.features == [agent.features[0]]
    assert {"results", "trace"} <= set(agent.features[0])


@pytest.mark.parametrize(
    ("target", "sender"), [(1, 0), (2, 0), (48, 49), (49, 49), (50, 50), (51, 49), (52, 52), (53, 53), (77, 77)]
)
def test_an_answer_is_translated_by_8_2(world: World, target: int, sender: int) -> None:
    outcome, _ = passed(world, f"says{target}", {"code": target})
    assert outcome.code == sender


def test_a_temporary_answer_keeps_its_code_and_its_wait(world: World) -> None:
    outcome, _ = passed(world, "full", {"code": 33, "retryafter": 7200})
    assert (outcome.code, outcome.result["retryafter"]) == (33, 7200)


def test_an_agent_of_2004_is_passed_on_to_as_well(world: World) -> None:
    outcome, agent = passed(world, "old", {"code": 0}, legacy=True)
    assert (outcome.code, "retransmit" in outcome.result) == (0, False)
    assert agent.next()["hops"] == 1


def test_a_no_of_2004_is_temporary(world: World) -> None:
    outcome, _ = passed(world, "oldno", {"code": 48}, legacy=True)
    assert (outcome.code, outcome.result["retryafter"]) == (32, 300)


def test_a_redirect_is_not_followed_by_who_passes_on(world: World) -> None:
    outcome, _ = passed(world, "moves", {"code": 16, "redirects": [redirect("x@elsewhere.example")]})
    assert outcome.code == 49


def test_nobody_at_home_is_temporary(world: World) -> None:
    there = world.address("gone", 'to = ["bob@nowhere.stranger.example"]')
    [outcome] = world.notifier(*TODAY).tell([world.store("gonestore").notification(there, MESSAGE)])
    assert (outcome.code, outcome.result["retryafter"]) == (32, 86400)


def test_several_targets_share_the_key_and_are_told_so(world: World) -> None:
    agents = [world.agent(name) for name in ("left", "right")]
    targets = '["l@left.stranger.example", "r@right.stranger.example"]'
    there = world.address("both", f'kind = "role"\nto = {targets}')
    store = world.store("bothstore")
    told = store.notification(there, MESSAGE)
    [outcome] = world.notifier(*TODAY).tell([told])
    assert outcome.code == 0
    for agent in agents:
        came = agent.next()
        assert (came["identifier"], came["trace"][-1]["how"]) == (told["identifier"], 2)
    assert not store.entries[told["identifier"]].silenced


def test_the_daemons_store_follows_a_redirect_with_its_token(world: World) -> None:
    old = Here("old.stranger.example", {"bob@movedfrom.stranger.example"})
    new = Here("new.stranger.example", {"bob@movedto.stranger.example"})
    old.moved = {"bob@movedfrom.stranger.example": [redirect("bob@movedto.stranger.example", 1, b"issued")]}
    new.tokens = {"bob@movedto.stranger.example": b"issued"}
    first, second = world.agent("movedfrom", old), world.agent("movedto", new)
    toby = world.originator()
    [key] = toby.submit(["bob@movedfrom.stranger.example"], MESSAGE)
    assert first.next()["identifier"] == key
    came = second.next()
    assert came["identifier"] != key
    assert came["token"] == b"issued"
    assert address(came["original"]) == "bob@movedfrom.stranger.example"
    with pytest.raises(Failure, match="errornosuchmessage"):
        world.messages().slice(key, "all", 0, 10)
    assert world.messages().fetch(came) == MESSAGE
    deadline = time.monotonic() + 20
    while (told := toby.track(key))["notificationstatus"] != "notifying":
        assert time.monotonic() < deadline, told
        time.sleep(0.05)
    assert told["redirectedto"] == [mailbox("bob@movedto.stranger.example")]


def test_what_the_daemons_store_sends_is_signed_by_the_key_that_it_publishes(world: World) -> None:
    agent = world.agent("verifies")
    world.originator().submit(["bob@verifies.stranger.example"], MESSAGE)
    came = agent.next()
    record = world.text(f"{came['signature']['selector']}._im2000-key.{HERE}")
    key = base64.b64decode(record.partition("p=")[2])
    assert verified(came, key)
    assert came["storeclear"] == ("domain", HERE.split("."))
    assert address(came["claimedfrom"]) == "toby@stranger.example"


def test_a_redirect_of_the_daemons_is_given_to_who_follows_and_the_fallback_to_who_does_not(world: World) -> None:
    agent = world.agent("fallen")
    toml = 'strategy = "redirect"\nto = ["bob@fallen.stranger.example"]\nfallback = "rewrite_resend"'
    there, store = world.address("left", toml), world.store("leftstore")
    [outcome] = world.notifier(*TODAY).tell([store.notification(there, MESSAGE)])
    assert outcome.code == 16
    [one] = outcome.result["redirects"]
    assert address(one["mailbox"]) == "bob@fallen.stranger.example"
    assert one["kind"] in (0, 1)
    told = store.notification(there, MESSAGE)
    [taken] = world.notifier("results").tell([told])
    assert taken.code == 0
    assert agent.next()["identifier"] == told["identifier"]


def test_a_ring_through_the_daemon_and_back_is_a_loop(world: World) -> None:
    here = Here("ring.stranger.example", {"bob@ring.stranger.example"})
    forwarder = Forwarder(here, f"ring@{HERE}", world.where("rnasp"))
    world.agent("ring", forwarder)
    there = world.address("ring", 'to = ["bob@ring.stranger.example"]')
    [outcome] = world.notifier(*TODAY).tell([world.store("ringstore").notification(there, MESSAGE)])
    assert outcome.code == 50
    assert [heard.code for heard in forwarder.heard] == [50]


def test_a_ring_that_begins_at_the_stranger_is_a_loop_too(world: World) -> None:
    here = Here("ring2.stranger.example", {"bob@ring2.stranger.example"})
    agent = world.agent("ring2", Forwarder(here, f"ring2@{HERE}", world.where("rnasp")))
    world.address("ring2", 'to = ["bob@ring2.stranger.example"]')
    told = world.store("ring2store").notification("bob@ring2.stranger.example", MESSAGE)
    [outcome] = Notifier(("127.0.0.1", agent.port), TODAY).tell([told])
    assert outcome.code == 50


def test_the_stranger_follows_a_redirect_of_the_daemons_and_its_target_compares_the_token(world: World) -> None:
    forwards = f'{{ original = "moved@{HERE}", token = "issued" }}'
    box = 'strategy = "subscribe"\nreaders = ["anna"]'
    target = world.address("movedto", f"{box}\nexpects = [{forwards}]")
    toml = f'strategy = "redirect"\nto = ["{target}"]\nfallback = "rewrite_resend"\n[redirect]\ntokens = ["issued"]'
    moved, store = world.address("moved", toml), world.store("follows")
    told = store.notification(moved, MESSAGE)
    notifier = world.notifier(*TODAY)
    [outcome] = notifier.tell([told])
    assert outcome.code == 16
    [followed] = store.follow(told, outcome.result["redirects"])
    assert followed["token"] == b"issued"
    stolen = {**followed, "identifier": bytes(16), "token": b"guessed"}
    assert [one.code for one in notifier.tell([stolen, followed])] == [49, 0]
    keys = [item["notification"]["identifier"] for item in world.mailbox("anna").waiting()]
    assert followed["identifier"] in keys
    assert not store.entries[told["identifier"]].pinned


def test_the_records_that_the_daemon_publishes_for_a_user_lead_to_his_agent(world: World) -> None:
    agent = world.agent("published")
    toml = 'strategy = "dns_user_lookup"\nto = ["bob@published.stranger.example"]\nfallback = "rewrite_resend"'
    named, store = world.address("named", toml), world.store("publishedstore")
    record = eventually(lambda: world.text(f"{label('named')}._im2000-user.{HERE}"))
    [target] = targets([record])
    assert (target.to, target.rna) == ("bob@published.stranger.example", "published.stranger.example")
    told = store.notification(named, MESSAGE)
    [outcome] = world.notifier("results").tell([told])
    assert outcome.code == 0
    came = agent.next()
    assert (address(came["recipient"]), came["identifier"]) == (target.to, told["identifier"])
