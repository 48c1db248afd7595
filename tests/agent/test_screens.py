"""What stands between the route and the strategy: verdicts, questions to the network, faults, bounds (7.17)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from forwarder.agent import screens
from forwarder.agent.screens import Guarded
from forwarder.model import Notification, Outcome, Signature
from forwarder.plugin import Ask, Case, Defer, Hold, Pass, Refuse, Screen, Verdict
from forwarder.signature import ED25519, key_name, key_record, new_private, sign
from forwarder.testing import MemoryTexts, make_ports
from forwarder.wire.notification import decode_notification, encode_notification
from forwarder_signature import forwarder_screens

from .conftest import MAKERS
from .world import OF_2004, World, build, notification, route

PRIVATE = new_private()
NAME = key_name("store.example", "s1")


class Scripted:
    """Asks for what is from `slow`, says `verdict` then; counts."""

    def __init__(self, verdict: Verdict, *, slow: bool = False, raises: bool = False) -> None:
        self.verdict, self.slow, self.raises = verdict, slow, raises
        self.judged = self.asked = 0
        self.gate = trio.Event()

    def judge(self, case: Case, /) -> Verdict | Ask:
        self.judged += 1
        if self.raises:
            raise RuntimeError("a fault")
        return Ask() if self.slow and case.notification.sender == "toby" else self.verdict

    async def ask(self, case: Case, /) -> Verdict:
        self.asked += 1
        await self.gate.wait()
        return self.verdict


def world_with(nursery: trio.Nursery, *chain: tuple[str, Screen], passes: bool = False) -> World:
    guarded = [Guarded(f"{stage}-{number}", stage, screen, passes) for number, (stage, screen) in enumerate(chain)]
    made = build(nursery, dict(MAKERS), screens=guarded)
    made.book.put(route("brian@pobox.example", to="brian@isp.example"))
    return made


@pytest.mark.parametrize(("verdict", "code"), [(Refuse(51), 51), (Defer(34), 34), (Pass(), 0)])
async def test_a_verdict_is_the_answer_or_lets_pass(nursery: trio.Nursery, verdict: Verdict, code: int) -> None:
    world = world_with(nursery, ("signature", Scripted(verdict)))
    assert await world.code(notification("brian@pobox.example")) == code
    assert len(world.wires.sent) == (code == 0)


async def test_an_address_that_does_not_exist_costs_no_screen(nursery: trio.Nursery) -> None:
    screen = Scripted(Pass())
    assert await world_with(nursery, ("signature", screen)).code(notification("nobody@pobox.example")) == 48
    assert screen.judged == 0


async def test_the_first_no_in_the_order_of_stages_ends_it(nursery: trio.Nursery) -> None:
    late = Scripted(Refuse(49))
    world = world_with(nursery, ("callback", late), ("signature", Scripted(Refuse(51))))
    assert await world.code(notification("brian@pobox.example")) == 51
    assert late.judged == 0


async def test_one_that_asks_holds_up_nobody_else(nursery: trio.Nursery) -> None:
    screen = Scripted(Pass(), slow=True)
    world = world_with(nursery, ("signature", screen))
    done: list[int] = []

    async def notify(key: int, sender: str) -> None:
        one = notification("brian@pobox.example", key)._replace(sender=sender, raw=b"")
        done.extend([await world.code(decode_notification(encode_notification(one))), key])

    async with trio.open_nursery() as clients:
        clients.start_soon(notify, 1, "toby")
        await trio.testing.wait_all_tasks_blocked()
        await notify(2, "anna")
        assert done == [0, 2]
        screen.gate.set()
    assert done == [0, 2, 0, 1]


async def test_a_redirect_that_came_too_late_for_its_answer_is_told_to_nobody_else(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    screen = Scripted(Pass(), slow=True)
    world = world_with(nursery, ("signature", screen))
    world.book.put(route("toby@pobox.example", "redirect", "toby@isp.example", fallback="rewrite_resend"))
    for_toby, for_brian = (
        decode_notification(encode_notification(notification(to, key)._replace(sender=sender, raw=b"")))
        for to, key, sender in (("toby@pobox.example", 1, "toby"), ("brian@pobox.example", 2, "anna"))
    )
    outcomes, _ = await world.notify(for_toby, for_brian)
    assert [outcome.code for outcome in outcomes] == [35, 0]
    screen.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert (await world.notify(for_toby, peer=OF_2004))[1] is False
    assert sorted(world.wires.recipients()) == ["brian@isp.example", "toby@isp.example"]


@pytest.mark.parametrize(("passes", "code"), [(True, 0), (False, 34)])
async def test_a_fault_means_what_the_screen_declared(nursery: trio.Nursery, passes: bool, code: int) -> None:
    world = world_with(nursery, ("signature", Scripted(Pass(), raises=True)), passes=passes)
    assert await world.code(notification("brian@pobox.example")) == code


async def test_one_that_never_answers_is_a_fault(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    world = world_with(nursery, ("signature", Scripted(Pass(), slow=True)))
    assert await world.code(notification("brian@pobox.example")) == 34


async def test_so_many_may_ask_and_more_are_told_so(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens, "ASKING", 2)
    screen = Scripted(Pass(), slow=True)
    world = world_with(nursery, ("signature", screen))
    async with trio.open_nursery() as clients:
        for key in (1, 2):
            clients.start_soon(world.code, notification("brian@pobox.example", key))
        await trio.testing.wait_all_tasks_blocked()
        assert await world.code(notification("brian@pobox.example", 3)) == 35
        screen.gate.set()
    assert world.dispatcher._screens.struck == 1


# -- the signature screen in its place


def signed(number: int, private: bytes) -> Notification:
    blank = Signature("store.example", "s1", ED25519, 1, b"")
    plain = notification("brian@pobox.example", number)._replace(signature=blank)
    value = sign(encode_notification(plain), private)
    return decode_notification(encode_notification(plain._replace(signature=blank._replace(value=value))))


async def test_signed_mail_through_a_forwarder_goes_on_signed_and_forged_mail_does_not(nursery: trio.Nursery) -> None:
    (spec,) = forwarder_screens()
    texts = MemoryTexts({NAME: [key_record(PRIVATE)]})
    world = world_with(nursery, ("signature", spec.make(spec.options.model_validate({}), make_ports(texts=texts))))
    good = [signed(number, PRIVATE) for number in range(5)]
    forged = [signed(number, new_private()) for number in range(5, 8)]
    outcomes, _ = await world.notify(*good, *forged)
    assert [outcome.code for outcome in outcomes] == [0] * 5 + [51] * 3
    assert texts.asked == [NAME]
    passed_on = [item for _, _, items in world.wires.sent for item in items]
    assert len(passed_on) == 5
    assert all(item.signature and str(item.original) == "brian@pobox.example" for item in passed_on)


async def test_what_is_held_is_kept_and_hidden(nursery: trio.Nursery) -> None:
    until = Hold(datetime.fromtimestamp(1_800_000_000 + 4 * 3600, UTC))
    world = build(nursery, dict(MAKERS), screens=[Guarded("h", "greylist", Scripted(until), False)])
    world.book.put(route("brian@pobox.example", "subscribe", readers=("brian",)))
    assert (await world.notify(notification("brian@pobox.example")))[0] == [Outcome(2)]
    assert world.disk.arrivals[0].hidden_until == int(until.until.timestamp())
