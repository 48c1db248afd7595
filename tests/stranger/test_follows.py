"""What the daemon's store does when a stranger's agent answers, or when nobody does (docs/protocol.md 6, 9.2, 11.1)."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest

from .agent import redirect
from .conftest import World
from .module import Record
from .notices import address, at_domain, mailbox

MESSAGE = b"From: toby@stranger.example\r\nSubject: %s\r\n\r\nhello\r\n"


def sent(world: World, to: str) -> bytes:
    [key] = world.originator().submit([to], MESSAGE % to.encode())
    return key


def tracked(world: World, key: bytes, **wanted: object) -> dict[str, Any]:
    """What Track says, once it says that."""
    toby, deadline = world.originator(), time.monotonic() + 20
    while not wanted.items() <= (told := toby.track(key)).items():
        assert time.monotonic() < deadline, told
        time.sleep(0.05)
    return told


@pytest.mark.parametrize(
    ("says", "legacy", "state"),
    [
        ({"code": 0}, False, {"notificationstatus": "notifying", "lastcode": 0}),
        ({"code": 2}, False, {"notificationstatus": "notifying", "lastcode": 2}),
        ({"code": 9}, False, {"notificationstatus": "notifying", "lastcode": 9}),
        ({"code": 48}, False, {"notificationstatus": "nouser", "lastcode": 48}),
        ({"code": 49}, False, {"notificationstatus": "protocolerror", "lastcode": 49}),
        ({"code": 33, "retryafter": 900}, False, {"notificationstatus": "unprocessed", "lastcode": 33}),
        ({"code": 99}, False, {"notificationstatus": "unprocessed", "lastcode": 99}),
        ({"code": 0}, True, {"notificationstatus": "notifying", "lastcode": 0}),
        ({"code": 48}, True, {"notificationstatus": "protocolerror"}),
    ],
)
def test_track_tells_what_an_agent_said(
    world: World, says: dict[str, Any], legacy: bool, state: dict[str, Any]
) -> None:
    name = f"tracked{says['code']}{'old' if legacy else ''}"
    world.agent(name, lambda *_: says, legacy)
    tracked(world, sent(world, f"bob@{name}.stranger.example"), **state)


def test_track_tells_that_nobody_is_there(world: World) -> None:
    world.names.records["_im2000-rnasp._tcp.noservice.stranger.example", "SRV"] = ["0 0 0 ."]
    world.publish("rnasp", "noserver.stranger.example", 1025)
    for name in ("baddomain", "noservice", "noserver"):
        tracked(world, sent(world, f"bob@{name}.stranger.example"), notificationstatus=name)


def refuses_redirects(world: World, name: str, redirects: list[dict[str, Any]]) -> tuple[list[Record], list[list[str]]]:
    """An agent that redirects who follows: what it hears from who does not like where to."""

    def decide(_: Record, says: list[str]) -> dict[str, Any]:
        return {"code": 16, "redirects": redirects} if "redirect" in says else {"code": 0}

    agent = world.agent(name, decide)
    key = sent(world, f"bob@{name}.stranger.example")
    tracked(world, key, notificationstatus="notifying", lastcode=0)
    came = [agent.next(), agent.next()]
    assert {one["identifier"] for one in came} == {key}
    return came, agent.features


@pytest.mark.parametrize("name", ["toomany", "none", "literal", "itself"])
def test_a_redirect_that_is_not_followed_is_asked_again_without(world: World, name: str) -> None:
    there = {"address": ("version4", bytes([127, 0, 0, 1])), "port": 2000}
    redirects = {
        "toomany": [redirect(f"x{n}@elsewhere.stranger.example") for n in range(11)],
        "none": [],
        "literal": [redirect("x@elsewhere.stranger.example") | {"rna": ("literals", [there])}],
        "itself": [redirect("bob@itself.stranger.example")],
    }[name]
    _, features = refuses_redirects(world, name, redirects)
    assert ["redirect" in said for said in features] == [True, False]
    assert all("results" in said for said in features)


def test_a_redirect_names_the_domain_where_the_agent_is(world: World) -> None:
    elsewhere = world.agent("rna")
    one = redirect("x@unfound.stranger.example", 0) | {"rna": at_domain("rna.stranger.example")}
    world.agent("torna", lambda *_: {"code": 16, "redirects": [one]})
    sent(world, "bob@torna.stranger.example")
    assert address(elsewhere.next()["recipient"]) == "x@unfound.stranger.example"


def test_moved_is_taken_and_a_copy_goes_beside_it(world: World) -> None:
    beside = world.agent("beside")
    says = {"code": 3, "redirects": [redirect("x@beside.stranger.example", 2)]}
    first = world.agent("stays", lambda *_: says)
    key = sent(world, "bob@stays.stranger.example")
    assert first.next()["identifier"] == key
    copy = beside.next()
    assert copy["identifier"] != key
    assert address(copy["original"]) == "bob@stays.stranger.example"
    assert world.messages().size(key)["size"] == world.messages().size(copy["identifier"])["size"]
    assert "moved" in first.features[0]


def test_a_chain_of_redirects_ends_at_its_depth(world: World) -> None:
    """Five are followed; the sixth is asked again without."""
    agents = []
    for n in range(7):
        one = redirect(f"bob@deep{n + 1}.stranger.example")

        def decide(_: Record, says: list[str], one: dict[str, Any] = one) -> dict[str, Any]:
            return {"code": 16, "redirects": [one]} if "redirect" in says else {"code": 0}

        agents.append(world.agent(f"deep{n}", decide))
    key = sent(world, "bob@deep0.stranger.example")
    told = tracked(world, key, notificationstatus="notifying", redirectedto=[mailbox("bob@deep5.stranger.example")])
    assert "lastcode" not in told
    assert agents[5].next()["identifier"] == agents[5].next()["identifier"]
    assert [len(agent.features) for agent in agents] == [1, 1, 1, 1, 1, 2, 0]


def test_a_user_record_is_asked_before_the_agent_of_the_domain(world: World) -> None:
    domain, user = world.agent("users"), world.agent("userhome")
    label = hashlib.sha256(b"brian").digest()[:28].hex()
    world.names.records[f"{label}._im2000-user.users.stranger.example", "TXT"] = [
        '"v=im2k1; to=brian@elsewhere.example; rna=userhome.stranger.example"'
    ]
    key = sent(world, "Brian@users.stranger.example")
    came = user.next()
    assert address(came["recipient"]) == "brian@elsewhere.example"
    assert came["identifier"] != key
    assert address(came["original"]) == "Brian@users.stranger.example"
    sent(world, "other@users.stranger.example")
    assert address(domain.next()["recipient"]) == "other@users.stranger.example"


def test_a_wrong_count_of_results_is_undecided(world: World) -> None:
    agent = world.agent("count")
    agent.server.handle = lambda *_: ("notify", {"results": [{"code": 0}, {"code": 0}]})
    tracked(world, sent(world, "bob@count.stranger.example"), notificationstatus="protocolerror")
