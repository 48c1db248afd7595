"""Any octets at the codec: a value that is written and read again as itself, or MalformedPDU, nothing else.

    python tests/fuzz/fuzz_wire.py [--seconds N] [--seed N]

With atheris installed it is coverage-guided (arguments after `--` go to libFuzzer); else a seeded mutator works on good
PDUs. Both print the number of executions; a finding is printed as hex and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from forwarder import model
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.der import MalformedPDU
from forwarder.wire.frames import Frames, frame
from forwarder.wire.notification import decode_notification, encode_notification, hop_tlv, original_tlv, splice
from forwarder.wire.notification import recipient_tlv as recipient
from forwarder.wire.session import MSOAP, MSRAP, NEED_DATA, RNAQP, RNASP, Bad, Protocol, ServerSession

BOB = model.Mailbox("bob", "isp.example")
KEY = bytes(range(16))
HERE = model.ServiceLocation(None, (model.Endpoint("192.0.2.1", 700), model.Endpoint("2001:db8::1", 7000)))
CLIENT = model.ClientLocation("192.0.2.7", 4000, "store.example")
HOP = model.Hop("forwarder.example", b"12345678", 1_700_000_000, 3)
FULL = model.Notification(
    model.ServiceLocation("store.example"),
    HERE,
    BOB,
    KEY,
    "toby",
    70000,
    model.ContentDigest(1, bytes(32)),
    model.Mailbox("brian", "pobox.example"),
    (HOP, HOP),
    2,
    model.Origin(HERE, "toby", b"handle"),
    1_800_000_000,
    model.Signature("store.example", "s1", 1, 1_700_000_000, bytes(64)),
    b"token",
    model.Report(1, CLIENT, 1_700_000_000),
    BOB,
)
PLAIN = model.Notification(model.ServiceLocation("store.example"), None, BOB, KEY, "toby", 1234)
GOOD = rnasp.Status.noerror

SEEDS = [
    encode_notification(FULL),
    encode_notification(PLAIN),
    rnasp.encode_command(rnasp.Notify((PLAIN, FULL), rnasp.Capabilities(1, frozenset({"results"}), "a.example"))),
    rnasp.encode_response(
        rnasp.Response(
            False,
            GOOD,
            rnasp.NotifyAnswer(
                (model.Outcome(16, (model.Redirect(BOB, HERE, 1, 5, b"token"),), 5, 6, "text"), model.Outcome(0)),
                rnasp.Capabilities(1, frozenset({"results"})),
            ),
        )
    ),
    rnaqp.encode_command(rnaqp.Authenticate("brian", "secret")),
    rnaqp.encode_command(rnaqp.Peek(b"after", 100)),
    rnaqp.encode_command(rnaqp.Clear((b"a", b"b"))),
    rnaqp.encode_response(
        rnaqp.Response(False, GOOD, rnaqp.Peeked((rnaqp.Item(PLAIN, CLIENT, 1_700_000_000, b"c"),), True))
    ),
    msrap.encode_command(msrap.Retrieve(KEY, msrap.View.all, 0, 65536)),
    msrap.encode_command(msrap.ScanList("news", 1_700_000_000)),
    msrap.encode_response(msrap.Response(False, GOOD, msrap.Retrieved(b"data", 4))),
    msrap.encode_response(msrap.Response(False, GOOD, msrap.Size(4, model.ContentDigest(1, bytes(32)), 5))),
    msoap.encode_command(msoap.SubmitEnvelope((BOB,), ("news",), 86400)),
    msoap.encode_command(msoap.SubmitMsgChunk(True, 0, b"data")),
    msoap.encode_response(
        msoap.Response(
            False,
            msoap.Status.noerror,
            msoap.Tracked(
                msoap.DeliveryStatus(msoap.NotificationStatus.notifying, msoap.ReadStatus.unread, True, (BOB,), 0)
            ),
        )
    ),
]
PROTOCOLS: list[tuple[Any, Protocol]] = [(rnasp, RNASP), (rnaqp, RNAQP), (msrap, MSRAP), (msoap, MSOAP)]
TAGS = bytes((0x04, 0x0C, 0x16, 0x30, 0x80, 0x81, 0x9F, 0xA0, 0xA1, 0xA2, 0xB0, 0xB1, 0xB2, 0xBE, 0x00, 0x7F, 0xFF))


def again(decode: Any, encode: Any, octets: bytes) -> None:
    try:
        value = decode(octets)
    except MalformedPDU:
        return
    written = encode(value)
    read = decode(written)
    assert read == value, (value, read)
    assert type(read) is type(value)


def bare(octets: bytes) -> model.Notification:
    """Without the octets it came in: what is written anew is ours, not theirs."""
    return decode_notification(octets)._replace(raw=b"")


def spliced(octets: bytes) -> None:
    """A splice changes the recipient and what it adds, and can be read."""
    try:
        came = decode_notification(octets)
        forwarded = splice(came, recipient(BOB), original=original_tlv(came.recipient), hop=hop_tlv(HOP))
    except MalformedPDU:
        return
    read = decode_notification(forwarded)
    assert read.recipient == BOB
    assert (read.storeclear, read.identifier, read.sender, read.size) == (
        came.storeclear,
        came.identifier,
        came.sender,
        came.size,
    )
    assert read.trace == (*came.trace, HOP)
    assert read.original == (came.original or came.recipient)


def session(protocol: Protocol, octets: bytes) -> None:
    """A server reads the octets raw and framed, and always ends or asks for more."""
    server = ServerSession(protocol)
    server.receive_data(octets[:7])
    server.receive_data(octets[7:] + frame(octets or b"\0"))
    while (event := server.next_event()) is not NEED_DATA:
        if not isinstance(event, Bad):
            server.send(protocol.error("errorinternalproblem"))
    server.receive_eof()


def once(octets: bytes) -> None:
    again(bare, encode_notification, octets)
    spliced(octets)
    for room, protocol in PROTOCOLS:
        again(room.decode_command, room.encode_command, octets)
        again(room.decode_response, room.encode_response, octets)
        session(protocol, octets)
    frames = Frames(64)
    frames.receive_data(octets)
    try:
        while frames.next_pdu() is not None:
            pass
    except MalformedPDU:
        pass


def mutate(chance: random.Random) -> bytes:
    octets = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randrange(5)):
        place = chance.randrange(len(octets) + 1)
        kind = chance.randrange(5)
        if kind == 0 and place < len(octets):
            octets[place] = chance.randrange(256)
        elif kind == 1 and place < len(octets):
            octets[place] = chance.choice(TAGS)
        elif kind == 2:
            del octets[place : place + chance.randrange(1, 5)]
        elif kind == 3:
            other = chance.choice(SEEDS)
            start = chance.randrange(len(other))
            octets[place:place] = other[start : start + chance.randrange(1, 30)]
        elif place < len(octets):  # a length off by a little
            octets[place] = (octets[place] + chance.choice((-1, 1, 2))) % 256
    return bytes(octets)


def seeded(seconds: float, seed: int) -> int:
    chance, count, end = random.Random(seed), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(200):
            octets = mutate(chance)
            try:
                once(octets)
            except Exception as error:
                print(f"finding after {count} executions: {error!r}\n{octets.hex()}")
                return 1
            count += 1
    print(f"{count} executions without a finding (seed {seed})")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the codec.")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("fuzzer", nargs="*", help="arguments for libFuzzer, after --")
    arguments = parser.parse_args()
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        return seeded(arguments.seconds, arguments.seed)
    atheris.instrument_all()
    limits = [f"-max_total_time={int(arguments.seconds)}", f"-seed={arguments.seed}"]
    with tempfile.TemporaryDirectory() as corpus:
        for number, octets in enumerate(SEEDS):
            Path(corpus, str(number)).write_bytes(octets)
        atheris.Setup([sys.argv[0], *limits, *arguments.fuzzer, corpus], once)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
