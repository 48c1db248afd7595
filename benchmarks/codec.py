"""The codec, in microseconds and as ratios to asn1tools on the same octets.

    python benchmarks/codec.py

Each figure is the best of repeated runs in one process; read the ratios, not the absolutes.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from importlib.resources import files

import asn1tools

from forwarder.model import Hop, Mailbox, Notification, Outcome, ServiceLocation
from forwarder.wire import rnasp
from forwarder.wire.notification import (
    decode_notification,
    encode_notification,
    hop_tlv,
    original_tlv,
    recipient_tlv,
    splice,
)
from forwarder.wire.session import RNASP, ClientSession, ServerSession

COUNT = 100
REPEATS = 7


def best(what: Callable[[], object], number: int = 200) -> float:
    """Microseconds a call."""
    return min(timeit.repeat(what, number=number, repeat=REPEATS)) / number * 1e6


def one(number: int, other: str = "") -> Notification:
    """`other` makes every element but the key new to the memo."""
    key = number.to_bytes(16, "big")
    recipient = Mailbox(f"brian{other}", f"pobox{other}.example")
    return Notification(ServiceLocation(f"store{other}.example"), None, recipient, key, f"toby{other}", 1234)


def misses() -> float:
    """Every element of every notification is seen for the first time."""
    octets = [encode_notification(one(n, f"-{n}")) for n in range(7000)]
    return timeit.timeit(lambda: [decode_notification(each) for each in octets], number=1) / len(octets) * 1e6


def transaction() -> Callable[[], object]:
    client, server = ClientSession(RNASP), ServerSession(RNASP)
    pdu = rnasp.encode_batch([encode_notification(one(1))])
    response = rnasp.Response(False, rnasp.Status.noerror, rnasp.NotifyAnswer())

    def run() -> object:
        server.receive_data(client.send_pdu(pdu))
        server.next_event()
        client.receive_data(server.send(response))
        return client.next_event()

    return run


def main() -> None:
    oracle = asn1tools.compile_string(files("forwarder.wire").joinpath("im2000.asn1").read_text(), "der")
    plain = [encode_notification(one(n)) for n in range(COUNT)]
    batch = rnasp.encode_batch(plain)
    came = decode_notification(plain[0])
    original, hop = original_tlv(came.recipient), hop_tlv(Hop("forwarder.example", bytes(8), 1_700_000_000, 3))
    target = recipient_tlv(Mailbox("bob", "isp.example"))
    forwarded = decode_notification(splice(came, target, original=original, hop=hop))
    side, value = oracle.decode("RNASPPDU", batch)
    results = rnasp.Response(
        False, rnasp.Status.noerror, rnasp.NotifyAnswer((Outcome(0), Outcome(32, retryafter=300)) * 50)
    )
    answer = rnasp.encode_response(results)
    theirs_decode = best(lambda: oracle.decode("RNASPPDU", batch), 10) / COUNT
    theirs_encode = best(lambda: oracle.encode("RNASPPDU", (side, value)), 10) / COUNT

    decode = best(lambda: rnasp.decode_command(batch)) / COUNT
    encode = best(lambda: [encode_notification(n) for n in [came] * COUNT], 20) / COUNT
    rows: list[tuple[str, float, float | None]] = [
        ("decode, of a batch of 100, elements seen before", decode, theirs_decode),
        ("decode, every element new", misses(), theirs_decode),
        ("decode of one that was forwarded once", best(lambda: decode_notification(forwarded.raw)), None),
        ("encode a notification of our own", encode, theirs_encode),
        ("splice, base elements, ready octets", best(lambda: splice(came, target, original=original, hop=hop)), None),
        ("splice, was forwarded once", best(lambda: splice(forwarded, target, original=original, hop=hop)), None),
        ("batch of 100 ready notifications, each", best(lambda: rnasp.encode_batch(plain)) / COUNT, None),
        ("results of 100, encode, each", best(lambda: rnasp.encode_response(results)) / COUNT, None),
        ("results of 100, decode, each", best(lambda: rnasp.decode_response(answer)) / COUNT, None),
        ("a single's transaction, both sessions", best(transaction()), None),
    ]
    for name, ours, theirs in rows:
        ratio = f"{theirs / ours:8.1f} x asn1tools" if theirs else ""
        print(f"{name:50s} {ours:8.2f} us{ratio}")


if __name__ == "__main__":
    main()
