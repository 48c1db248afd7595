"""Good PDUs to begin with, one of each kind, and the octets that matter to a reader of DER."""

from __future__ import annotations

from typing import Any

from forwarder.model import (
    ClientLocation,
    ContentDigest,
    Endpoint,
    Hop,
    Mailbox,
    Notification,
    Origin,
    Outcome,
    Redirect,
    Report,
    ServiceLocation,
    Signature,
)
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.notification import encode_notification

BOB = Mailbox("bob", "isp.example")
KEY = bytes(range(16))
STORE = ServiceLocation("store.example")
HERE = ServiceLocation(None, (Endpoint("192.0.2.1", 700), Endpoint("2001:db8::1", 7000)))
CLIENT = ClientLocation("192.0.2.7", 4000, "store.example")
HOP = Hop("forwarder.example", b"12345678", 1_700_000_000, 3)
FULL = Notification(
    STORE,
    HERE,
    BOB,
    KEY,
    "toby",
    70000,
    ContentDigest(1, bytes(32)),
    Mailbox("brian", "pobox.example"),
    (HOP, HOP),
    2,
    Origin(HERE, "toby", b"handle"),
    1_800_000_000,
    Signature("store.example", "s1", 1, 1_700_000_000, bytes(64)),
    b"token",
    Report(1, CLIENT, 1_700_000_000),
    BOB,
)
PLAIN = Notification(STORE, None, BOB, KEY, "toby", 1234)
SIGNED = PLAIN._replace(signature=FULL.signature)
RESULTS = rnasp.Capabilities(1, frozenset({"results"}), "a.example")
TRACKED = msoap.DeliveryStatus(msoap.NotificationStatus.notifying, msoap.ReadStatus.unread, True, (BOB,), 0)
ANSWERS = (Outcome(16, (Redirect(BOB, HERE, 1, 5, b"token"),), 5, 6, "text"), Outcome(0))
ITEM = rnaqp.Item(PLAIN, CLIENT, 1_700_000_000, b"c")
LOGIN = rnaqp.Authenticate("brian", "secret")
_GOOD, _FINE = rnasp.Status.noerror, msoap.Status.noerror

NOTIFICATIONS = [encode_notification(one) for one in (FULL, PLAIN, SIGNED)]
COMMANDS: dict[str, list[Any]] = {
    "rnasp": [rnasp.Notify((PLAIN, FULL), RESULTS), rnasp.Notify(())],
    "rnaqp": [LOGIN, rnaqp.RetrieveAndClear(5), rnaqp.Peek(b"after", 100), rnaqp.Clear((b"a", b"b"))],
    "msrap": [
        msrap.Retrieve(KEY, msrap.View.all, 0, 65536),
        msrap.ScanList("news", 1_700_000_000),
        msrap.UnPin(KEY),
        msrap.QuerySize(KEY),
        msrap.Split(KEY, 2),
    ],
    "msoap": [msoap.SubmitEnvelope((BOB,), ("news",), 86400), msoap.SubmitMsgChunk(True, 0, b"data"), msoap.Track(KEY)],
}
RESPONSES: dict[str, list[Any]] = {
    "rnasp": [rnasp.Response(False, _GOOD, rnasp.NotifyAnswer(ANSWERS, RESULTS)), rnasp.Response(True, _GOOD)],
    "rnaqp": [rnaqp.Response(False, _GOOD, rnaqp.Peeked((ITEM,), True))],
    "msrap": [
        msrap.Response(False, _GOOD, msrap.Retrieved(b"data", 4)),
        msrap.Response(False, _GOOD, msrap.Size(4, ContentDigest(1, bytes(32)), 5)),
        msrap.Response(False, _GOOD, msrap.Scanned((KEY,), 5)),
    ],
    "msoap": [
        msoap.Response(False, _FINE, msoap.Tracked(TRACKED)),
        msoap.Response(False, _FINE, msoap.ChunkAnswer((KEY,), KEY)),
    ],
}
TAGS = [bytes((tag,)) for tag in b"\x04\x0c\x16\x30\x80\x81\x9f\xa0\xa1\xa2\xb0\xb1\xb2\xbe\x00\x7f\xff"]
WORDS = [*TAGS, b"\x81\x80", b"\x82\x01\x00", b"\x80\x10" + KEY, b"\xa1\x05\x0c\x03isp", b"\x9e\x01\x00", b"\xff\xff"]
