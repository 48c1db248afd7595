"""What a bridge is told of a mailbox: every answer of protocol 5.0, and that we do not know is none of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar, NamedTuple

import pytest
import trio

from forwarder.agent.decide import Decider
from forwarder.agent.routes import Routes
from forwarder.agent.tick import Tick
from forwarder.bridges import Failed, Never
from forwarder.daemon.doors import carry_failed, look, verify
from forwarder.model import Mailbox, Notification, Route, parse_mailbox
from forwarder.plugin import PeerError, Plan, Refuse
from forwarder.ports import Account, Broken, Debt, Nobody
from forwarder.ports import Answer as FileAnswer

from ..agent.conftest import MAKERS, Says  # noqa: TID252  # an agent on memory ports
from ..agent.world import Book, Disk, Offer, notification, route  # noqa: TID252

NOW = 1_800_000_000.0
THEN = datetime.fromtimestamp(NOW, UTC)
NEW = parse_mailbox("brian@new.example")


class Files(Book):
    """`answers` stand for files that are no good, and for domains that tell strangers nothing."""

    def __init__(self) -> None:
        super().__init__({"pobox.example"})
        self.answers: dict[str, FileAnswer] = {}

    def _find(self, mailbox: Mailbox) -> FileAnswer:
        return self.answers.get(str(mailbox)) or super()._find(mailbox)


class TellsSmtp(NamedTuple):
    """The part of a strategy's options that counts."""

    tell_smtp: bool


class Node:
    def __init__(self) -> None:
        self.files = Files()
        makers = {**MAKERS, "refuses": lambda route: Says(Plan((Refuse(49, text="not here"),)))}
        offer, disk = Offer(makers), Disk(Tick(lambda error: None))
        routes = Routes(self.files, offer, disk, name="mx.pobox.example", mark=lambda m: b"", depth=3, targets=2)
        self.look = look(routes, Decider(routes, offer), lambda: NOW)

    async def code(self, *routes: Route, of: str = "brian@pobox.example") -> int:
        self.files.put(*routes)
        return (await self.look(parse_mailbox(of))).code


@pytest.fixture
def node() -> Node:
    return Node()


BRIAN = "brian@pobox.example"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (route(BRIAN, to="brian@isp.example"), 0),
        (route(BRIAN, "subscribe", readers=("brian",)), 0),
        (route(BRIAN, "pull", to="brian@isp.example"), 0),
        (route(BRIAN, "keep_and_tell", to="brian@isp.example", readers=("brian",)), 0),
        (route(BRIAN, "subscribe", readers=("brian",), state="off"), 32),
        (route(BRIAN, "subscribe", readers=("brian",), state="gone"), 48),
        (route(BRIAN, "subscribe", readers=("brian",), expires=THEN), 48),
        (route(BRIAN, "subscribe", readers=("brian",), expires=THEN + timedelta(seconds=1)), 0),
        (route(BRIAN, "redirect", to="brian@new.example"), 16),
        (route(BRIAN, "redirect", to="brian@new.example", fallback="rewrite_resend"), 0),
        (route(BRIAN, "refuses"), 49),
        (route(BRIAN, "defers"), 32),
        (route(BRIAN, "declines", fallback="subscribe", readers=("brian",)), 0),
        (route(BRIAN, to="brian@pobox.example"), 50),
        (route(BRIAN, to="a@isp.example b@isp.example c@isp.example"), 32),
        (route(BRIAN, to="nobody@pobox.example"), 0),
    ],
)
async def test_each_outcome_of_a_file(node: Node, given: Route, code: int) -> None:
    """The last three: a ring, more targets than this node serves, a target whose own answer comes after the dot."""
    assert await node.code(given) == code


async def test_what_memory_knows_is_not_read_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await node.code(route(BRIAN, "subscribe", readers=("brian",))) == 0

    async def reads(*_: object) -> None:
        raise AssertionError("no file is looked at")

    monkeypatch.setattr(node.files, "read", reads)
    assert (await node.look(parse_mailbox(BRIAN))).code == 0


async def test_a_refusal_has_its_own_words_and_others_the_protocols(node: Node) -> None:
    node.files.put(route(BRIAN, "refuses"), route("gone@pobox.example", state="gone"))
    assert (await node.look(parse_mailbox(BRIAN))).text == "not here"
    assert (await node.look(parse_mailbox("gone@pobox.example"))).text == "no such mailbox"


async def test_where_it_is_now_is_told_only_if_its_file_says_so(node: Node) -> None:
    moved = {"to": "brian@new.example"}
    for tell, told in ((True, (NEW,)), (False, ())):
        node.files.put(route(BRIAN, "redirect", **moved, options={"redirect": TellsSmtp(tell)}))
        answer = await node.look(parse_mailbox(BRIAN))
        assert (answer.code, answer.moved) == (16, told)


async def test_a_file_that_tells_mail_too_lets_no_fallback_act_for_it(node: Node) -> None:
    """A redirect always has one, for stores of 2004."""
    moved = {"to": "brian@new.example", "fallback": "rewrite_resend"}
    for tell, code, told in ((True, 16, (NEW,)), (False, 0, ())):
        node.files.put(route(BRIAN, "redirect", **moved, options={"redirect": TellsSmtp(tell)}))
        answer = await node.look(parse_mailbox(BRIAN))
        assert (answer.code, answer.moved) == (code, told)


@pytest.mark.parametrize("tell", [True, False])
async def test_nobody_is_told_to_mail_even_where_strangers_are_not_told(node: Node, tell: bool) -> None:
    """unknown = "accept" swallows notifications; mail would be lost in silence."""
    node.files.answers["nobody@pobox.example"] = Nobody(tell)
    assert await node.code(of="nobody@pobox.example") == 48


async def test_a_foreign_domain_is_not_ours(node: Node) -> None:
    answer = await node.look(parse_mailbox("brian@isp.example"))
    assert (answer.code, answer.ours) == (49, False)


async def test_of_a_broken_file_we_know_nothing(node: Node) -> None:
    node.files.answers[BRIAN] = Broken("addresses/pobox.example/brian.toml", 3, "no closing quote")
    with pytest.raises(PeerError, match="no closing quote"):
        await node.look(parse_mailbox(BRIAN))


async def test_it_says_who_may_send_as_it_the_owner_first(node: Node) -> None:
    node.files.put(route(BRIAN, "subscribe", readers=("freda", "brian"), owner="brian"))
    answer = await node.look(parse_mailbox(BRIAN))
    assert (answer.senders, answer.ours) == (("brian", "freda"), True)
    assert (await node.look(parse_mailbox("nobody@pobox.example"))).senders == ()


# -- the other doors


class Accounts:
    """ports.Accounts: everybody's password is "right"."""

    on: ClassVar = {"toby": frozenset({"originate"}), "reader": frozenset({"read"})}

    async def verify(self, name: str, password: str, address: str) -> Account | None:
        await trio.lowlevel.checkpoint()
        return await self.find(name) if password == "right" else None

    async def find(self, name: str) -> Account | None:
        return Account(name, self.on[name], {}) if name in self.on else None


async def test_only_who_may_originate_is_verified_for_sending() -> None:
    door = verify(Accounts())
    asked = [("toby", "right"), ("toby", "wrong"), ("reader", "right"), ("nobody", "right")]
    assert [await door(name, password, "127.0.0.1") for name, password in asked] == [True, False, False, False]


class Rows:
    """Of ports.Ledger and agent.Courier what a report asks: row 1 is of a native message, row 2 of mail."""

    def __init__(self) -> None:
        self.failed: list[tuple[int, Mailbox | None, Never]] = []

    async def carry_failed(self, number: int, mailbox: Mailbox | None, answer: Never) -> bool:
        await trio.lowlevel.checkpoint()
        self.failed.append((number, mailbox, answer))
        return number == 2

    def owes(self, number: int, mailbox: Mailbox) -> bool:
        return number < 3

    async def debt(self, number: int) -> Debt | None:
        await trio.lowlevel.checkpoint()
        made = notification(BRIAN, key=number)
        row = Debt(number, "resend", BRIAN, made.recipient, "store.example", made.identifier, made.raw, 0, b"[]")
        return row if number < 3 else None


async def sender(made: Notification) -> str | None:
    await trio.lowlevel.checkpoint()
    return "alice@out.example" if made.identifier == notification(BRIAN, key=2).identifier else None


@pytest.mark.parametrize(
    ("number", "failed"),
    [(1, Failed(False, None, True)), (2, Failed(True, "alice@out.example", True)), (3, Failed(False, None))],
)
async def test_a_report_learns_whether_it_ended_something_and_whom_to_tell(number: int, failed: Failed) -> None:
    rows, no = Rows(), Never(48, "550 5.1.1")
    assert await carry_failed(rows, rows, sender)(number, NEW, no) == failed  # type: ignore[arg-type]
    assert rows.failed == [(number, NEW, no)]
