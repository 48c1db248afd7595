"""The test vectors of protocol.md 3.5, byte for byte, read and written."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.model import Mailbox, Notification, Outcome, Redirect, ServiceLocation
from forwarder.wire import msrap, rnaqp, rnasp
from forwarder.wire.notification import encode_notification

KEY = bytes(range(16))
ONE = Notification(ServiceLocation("store.example"), None, Mailbox("brian", "pobox.example"), KEY, "toby", 1234)
BOB = Redirect(Mailbox("bob", "isp.example"), None, kind=0, ttl=86400)
RESULTS = frozenset({"results"})

COMMANDS = [
    (
        rnasp,
        rnasp.Notify((ONE._replace(raw=encode_notification(ONE)),)),
        "a153a051a04fa04d304ba012a1100c0573746f72650c076578616d706c65a2198005627269616ea1100c05706f626f780c076578"
        "616d706c658310000102030405060708090a0b0c0d0e0f8404746f6279850204d2",
    ),
    (
        rnasp,
        rnasp.Notify((), rnasp.Capabilities(1, frozenset({"results", "redirect", "trace"}))),
        "a127a025a023a000b01f800101a11a0c07726573756c74730c0872656469726563740c057472616365",
    ),
    (msrap, msrap.UnPin(KEY), "a116a014a2128010000102030405060708090a0b0c0d0e0f"),
    (
        msrap,
        msrap.Retrieve(bytes(16), msrap.View.all, 0, 65536),
        "a121a01fa41d8010000000000000000000000000000000008101038201008303010000",
    ),
    (rnaqp, rnaqp.RetrieveAndClear(), "a104a002a100"),
]

RESPONSES = [
    (rnasp, rnasp.Response(False, rnasp.Status.noerror, rnasp.NotifyAnswer()), "a20a800100810100a202a100"),
    (
        rnasp,
        rnasp.Response(
            False,
            rnasp.Status.noerror,
            rnasp.NotifyAnswer((Outcome(16, (BOB,)),), rnasp.Capabilities(1, RESULTS)),
        ),
        "a244800100810100a23ca13ab0283026800110a121301fa0158003626f62a10e0c036973700c076578616d706c65820100830301"
        "5180b10e800101a1090c07726573756c7473",
    ),
    (rnasp, rnasp.Response(True, rnasp.Status.errormalformedpdu), "a20a8001ff810101a202a000"),
    (msrap, msrap.Response(False, rnasp.Status.errornosuchmessage), "a20a800100810107a202a000"),
]


@pytest.mark.parametrize(("protocol", "command", "octets"), COMMANDS)
def test_a_command_of_the_document(protocol: Any, command: object, octets: str) -> None:
    assert protocol.encode_command(command).hex() == octets
    assert protocol.decode_command(bytes.fromhex(octets)) == command


@pytest.mark.parametrize(("protocol", "response", "octets"), RESPONSES)
def test_a_response_of_the_document(protocol: Any, response: object, octets: str) -> None:
    assert protocol.encode_response(response).hex() == octets
    assert protocol.decode_response(bytes.fromhex(octets)) == response


def test_a_batch_of_ready_octets_is_the_command_itself() -> None:
    octets = [encode_notification(ONE)] * 3
    capabilities = rnasp.Capabilities(1, RESULTS, "forwarder.example")
    batch = rnasp.encode_batch(octets, rnasp.encode_capabilities(capabilities))
    assert batch == rnasp.encode_command(rnasp.Notify((ONE,) * 3, capabilities))
