"""What each of the six plans (protocol 5.1 to 5.6), and that none of them breaks a law of plans."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from forwarder.laws import unlawful
from forwarder.model import Kind, Route, parse_mailbox, user_label
from forwarder.plugin import Case, Decline, Deposit, Plan, Pull, Refuse, Resend, Step, StrategySpec, Tell
from forwarder.plugins import load
from forwarder.testing import EXTENDED, check_strategy, make_case, make_notification, make_ports, make_route

SPECS: Mapping[str, StrategySpec[Any]] = load().strategies
BOB, FREDA = parse_mailbox("bob@staff.example"), parse_mailbox("freda@staff.example")
TWO = ["bob@staff.example", "freda@staff.example"]


def plan(route: Route, case: Case | None = None, **options: object) -> Plan:
    spec = SPECS[route.strategy]
    strategy = spec.make(route, spec.options.model_validate(options), make_ports())
    return strategy.plan(case or make_case(route))


def step(route: Route, case: Case | None = None, **options: object) -> Step:
    (only,) = plan(route, case, **options).steps
    return only


def sized(route: Route, size: int | None) -> Case:
    return make_case(route, make_notification(size=size))


def test_the_six_are_found_by_their_entry_points() -> None:
    assert set(SPECS) == {
        "subscribe",
        "redirect",
        "rewrite_resend",
        "pull_repush",
        "pull_hold",
        "dns_user_lookup",
    }


def test_subscribe_keeps_it_for_the_readers() -> None:
    assert step(make_route(strategy="subscribe", readers=["brian"])) == Deposit(("brian",))


def redirecting(*, kind: Kind = "person", to: tuple[str, ...] = ("bob@staff.example",)) -> Route:
    return make_route(strategy="redirect", to=to, kind=kind, fallback="pull_repush")


def test_redirect_tells_a_store_that_knows_redirects() -> None:
    route = redirecting()
    assert step(route, make_case(route, features=EXTENDED)) == Tell((BOB,), permanent=False, ttl=None)


def test_redirect_declines_for_a_store_of_2004() -> None:
    assert isinstance(step(redirecting()), Decline)


def test_redirect_declines_when_handed_on_in_process_whatever_the_features() -> None:
    route = redirecting()
    assert isinstance(step(route, make_case(route, features=EXTENDED, inner=True)), Decline)


def test_redirect_may_be_trusted_for_its_ttl_only_when_permanent() -> None:
    route = redirecting()
    case = make_case(route, features=EXTENDED)
    assert step(route, case, scope="permanent") == Tell((BOB,), permanent=True, ttl=timedelta(days=7))
    assert step(route, case, scope="permanent", ttl="2h") == Tell((BOB,), permanent=True, ttl=timedelta(hours=2))
    assert step(route, case, scope="once", ttl="2h") == Tell((BOB,))


def test_redirect_hands_out_what_each_target_issued() -> None:
    route = redirecting(kind="group", to=("bob@staff.example", "freda@staff.example"))
    told = step(route, make_case(route, features=EXTENDED), tokens=["from-bob", ""])
    assert told == Tell((BOB, FREDA), tokens=(b"from-bob", b""))


@pytest.mark.parametrize("ttl", ["8d", "0s", "a week", 7])
def test_redirect_ttl_is_a_duration_of_a_week_at_most(ttl: object) -> None:
    with pytest.raises(ValidationError):
        SPECS["redirect"].options.model_validate({"ttl": ttl})


def test_a_token_has_at_most_64_octets() -> None:
    SPECS["redirect"].options.model_validate({"tokens": ["x" * 64]})
    with pytest.raises(ValidationError):
        SPECS["redirect"].options.model_validate({"tokens": ["é" * 33]})


def test_rewrite_resend_passes_it_on() -> None:
    assert step(make_route(to=["bob@staff.example"])) == Resend((BOB,))
    role = make_route(to=TWO, kind="role")
    assert step(role) == Resend((BOB, FREDA))
    assert step(role, stateless=True, chains=True) == Resend((BOB, FREDA), stateless=True, chains=True)


@pytest.mark.parametrize(("kind", "linked"), [("role", True), ("group", False)])
def test_pull_repush_links_the_keys_of_a_role(kind: Kind, linked: bool) -> None:
    route = make_route(strategy="pull_repush", to=TWO, kind=kind)
    assert step(route) == Pull(to=(BOB, FREDA), linked=linked, unpin="after_readers", max_size=30 << 20)


def test_pull_repush_unpins_as_told() -> None:
    route = make_route(strategy="pull_repush", to=["bob@staff.example"])
    pulled = step(route, unpin_source="after_copy", max_size="1MiB")
    assert pulled == Pull(to=(BOB,), unpin="after_copy", max_size=1 << 20)


@pytest.mark.parametrize(("kind", "linked"), [("role", True), ("group", False)])
def test_pull_hold_links_the_keys_of_a_role(kind: Kind, linked: bool) -> None:
    route = make_route(strategy="pull_hold", readers=["bob", "freda"], kind=kind)
    assert step(route) == Pull(readers=("bob", "freda"), linked=linked, unpin="after_copy", max_size=30 << 20)


def test_pull_hold_keeps_as_long_as_told_else_as_the_store_does() -> None:
    route = make_route(strategy="pull_hold", readers=["bob"])
    assert step(route) == Pull(readers=("bob",), unpin="after_copy", keep=None)
    assert step(route, keep="7y") == Pull(readers=("bob",), unpin="after_copy", keep=timedelta(days=7 * 365))


@pytest.mark.parametrize("strategy", ["pull_repush", "pull_hold"])
def test_what_is_said_to_be_too_large_is_refused_at_once(strategy: str) -> None:
    route = make_route(strategy=strategy, to=["bob@staff.example"], readers=["bob"])
    assert isinstance(step(route, sized(route, 1024), max_size="1KiB"), Pull)
    assert isinstance(step(route, sized(route, None), max_size="1KiB"), Pull)
    refused = step(route, sized(route, 1025), max_size="1KiB")
    assert isinstance(refused, Refuse)
    assert refused.code == 49


def looked_up(to: tuple[str, ...], kind: Kind = "person", **more: Any) -> Route:
    return make_route(strategy="dns_user_lookup", to=to, kind=kind, fallback="pull_repush", **more)


def records(route: Route, **options: object) -> tuple[str, ...]:
    spec = SPECS["dns_user_lookup"]
    assert spec.records is not None
    return tuple(spec.records(route, spec.options.model_validate(options)))


def test_dns_user_lookup_always_declines() -> None:
    route = looked_up(("bob@isp.example",))
    assert isinstance(step(route, make_case(route, features=EXTENDED)), Decline)


def test_dns_user_lookup_publishes_the_target_of_a_person() -> None:
    # the owner of the example of protocol 5.0, "brian"
    owner = "f3fe5a51a2be8c6dc715028858fcba82ee021be7687e4f95b45086b8._im2000-user"
    assert records(looked_up(("bob@isp.example",))) == (f'{owner} IN TXT "v=im2k1; to=bob@isp.example"',)
    assert records(looked_up(("bob@isp.example",)), ttl="1h") == (f'{owner} 3600 IN TXT "v=im2k1; to=bob@isp.example"',)


def test_dns_user_lookup_publishes_a_group_as_one_dns_group_each() -> None:
    label = user_label("brian")
    assert records(looked_up(("bob@isp.example", "brian@home.example"), "group")) == (
        f'{label}._im2000-user IN TXT "v=im2k1; to=bob@isp.example; g=1"',
        f'{label}._im2000-user IN TXT "v=im2k1; to=brian@home.example; g=2"',
    )


def test_dns_user_lookup_publishes_a_catch_all_as_a_wildcard_and_a_pattern_not_at_all() -> None:
    (line,) = records(looked_up(("lost@isp.example",), entry="@pobox.example", matched="catch_all"))
    assert line.startswith("*._im2000-user ")
    assert records(looked_up(("x@isp.example",), entry="sales-*@pobox.example", matched="pattern")) == ()


@pytest.mark.parametrize("state", ["off", "gone", "moved"])
def test_an_address_that_is_not_on_is_not_published(state: str) -> None:
    assert records(looked_up(("bob@isp.example",), state=state)) == ()


ROUTES = {
    "subscribe": make_route(strategy="subscribe", kind="role", readers=["bob", "freda"]),
    "redirect": make_route(strategy="redirect", kind="group", to=TWO, fallback="pull_repush"),
    "rewrite_resend": make_route(strategy="rewrite_resend", kind="role", to=TWO),
    "pull_repush": make_route(strategy="pull_repush", kind="group", to=TWO),
    "pull_hold": make_route(strategy="pull_hold", kind="role", readers=["bob", "freda"]),
    "dns_user_lookup": make_route(strategy="dns_user_lookup", kind="group", to=TWO, fallback="pull_repush"),
}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_each_of_the_six_keeps_the_laws(name: str) -> None:
    check_strategy(SPECS[name], ROUTES[name])


@given(
    name=st.sampled_from(sorted(SPECS)),
    features=st.frozensets(st.sampled_from(sorted(EXTENDED)) | st.text(max_size=8), max_size=5),
    inner=st.booleans(),
    size=st.none() | st.integers(0, 1 << 64),
    sender=st.text(max_size=20),
    hops=st.none() | st.integers(0, 255),
    earlier=st.sampled_from([(), (BOB,), (BOB, FREDA)]),
)
def test_every_case_gets_a_lawful_plan_twice_the_same(
    name: str,
    features: frozenset[str],
    inner: bool,
    size: int | None,
    sender: str,
    hops: int | None,
    earlier: tuple[Any, ...],
) -> None:
    route = ROUTES[name]
    notification = make_notification(size=size, sender=sender, hops=hops)
    case = make_case(route, notification, features=features, inner=inner, earlier=earlier)
    decided = plan(route, case)
    assert unlawful(decided) is None
    assert decided == plan(route, case)
    assert not any(isinstance(one, Tell) for one in decided.steps) or ("redirect" in features and not inner)
