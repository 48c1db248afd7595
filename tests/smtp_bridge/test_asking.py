"""`check --network`: what the smarthost says in EHLO against what we would bring it."""

from __future__ import annotations

import socket

import pytest
import trio

from forwarder_smtp_bridge import asking
from forwarder_smtp_bridge.options import BridgeOptions

from .scripted_smarthost import HANG, OFFERS, Script


def options(port: int) -> BridgeOptions:
    return BridgeOptions.model_validate(
        {
            "smtp_in": {"max_size": "30MiB"},
            "smtp_out": {"smarthost": f"127.0.0.1:{port}"},
            "returns": {"domain": "srs.x.example"},
        }
    )


@pytest.mark.parametrize(
    ("offers", "complaints"),
    [
        (OFFERS, {}),
        (OFFERS.replace(b" 31457280", b" 0"), {}),
        (OFFERS.replace(b" 31457280", b""), {}),
        (OFFERS.replace(b" 31457280", b" 10240000"), {"smtp_in.max_size": "takes 10240000"}),
        (OFFERS.replace(b"8BITMIME", b"HELP"), {"smtp_out.smarthost": "no 8BITMIME"}),
        (OFFERS.replace(b"SMTPUTF8", b"HELP"), {"smtp_out.smarthost": "no SMTPUTF8"}),
        (b"550 5.7.1 not you", {"smtp_out.smarthost": "EHLO"}),
        (b"\xff\xff", {"smtp_out.smarthost": ""}),
    ],
)
async def test_what_it_offers(nursery: trio.Nursery, offers: bytes, complaints: dict[str, str]) -> None:
    script = Script()
    script.then("EHLO", offers)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, script.serve, listeners)
    found = await asking.ask(options(listeners[0].socket.getsockname()[1]), "mx.pobox.example")
    assert {each.key for each in found} == complaints.keys()
    assert all(complaints[each.key] in each.text for each in found)


async def test_one_that_does_not_answer_holds_nobody_up(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.2)
    script = Script()
    script.then("EHLO", HANG)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, script.serve, listeners)
    [found] = await asking.ask(options(listeners[0].socket.getsockname()[1]), "mx.pobox.example")
    assert "no answer within" in found.text
    nursery.cancel_scope.cancel()


async def test_none_that_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        [found] = await asking.ask(options(taken.getsockname()[1]), "mx.pobox.example")
    assert found.key == "smtp_out.smarthost"
    assert await asking.ask(BridgeOptions.model_validate({}), "mx.pobox.example") == ()
