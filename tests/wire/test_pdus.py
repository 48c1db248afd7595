"""Every PDU of the four protocols: what is written is read again as the same value, and is what an independent
encoder (asn1tools, compiled from our own module) writes. The oracle only ever encodes: it loops on hostile input.
"""

from __future__ import annotations

from enum import IntEnum
from importlib.resources import files
from ipaddress import ip_address
from typing import Any

import asn1tools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder import model
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.notification import encode_notification

# -- any value of each type

labels = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,12}[a-z0-9])?", fullmatch=True)
domains = st.lists(labels, min_size=1, max_size=4).map(".".join)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
octets = st.binary(max_size=40)
keys = st.binary(min_size=16, max_size=16)
tokens = st.binary(min_size=1, max_size=64)
codes = st.integers(0, 255)
unsigned = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 127, 128, 255, 256, 2**31, 2**63, 2**64 - 1]))
times = st.integers(0, 2**62 - 1)
addresses = st.ip_addresses().map(str)
ports = st.integers(0, 65535)
mailboxes = st.builds(model.Mailbox, texts, domains)
endpoints = st.builds(model.Endpoint, addresses, ports)
locations = st.one_of(
    st.builds(model.ServiceLocation, domains, st.just(())),
    st.builds(model.ServiceLocation, st.none(), st.lists(endpoints, max_size=3).map(tuple)),
)
clients = st.builds(model.ClientLocation, addresses, ports, st.none() | domains)
digests = st.builds(model.ContentDigest, codes, octets)


def some(values: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=most).map(tuple)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


notifications = st.builds(
    model.Notification,
    locations,
    maybe(locations),
    mailboxes,
    keys,
    texts,
    maybe(unsigned),
    maybe(digests),
    maybe(mailboxes),
    some(st.builds(model.Hop, domains, maybe(octets), times, maybe(codes))),
    maybe(codes),
    maybe(st.builds(model.Origin, locations, texts, maybe(octets))),
    maybe(times),
    maybe(st.builds(model.Signature, domains, texts, codes, times, octets)),
    maybe(tokens),
    maybe(st.builds(model.Report, codes, maybe(clients), maybe(times))),
    maybe(mailboxes),
).map(lambda notification: notification._replace(raw=encode_notification(notification)))
capabilities = st.builds(
    rnasp.Capabilities,
    st.integers(1, 255),
    st.frozensets(st.sampled_from(["results", "redirect", "trace", "zebra", "apple"]) | texts, max_size=5),
    maybe(domains),
)
outcomes = st.builds(
    model.Outcome,
    codes,
    some(st.builds(model.Redirect, mailboxes, maybe(locations), st.integers(0, 2), maybe(unsigned), maybe(tokens))),
    maybe(unsigned),
    maybe(unsigned),
    texts,
)
items = st.builds(rnaqp.Item, notifications, clients, times, maybe(octets))
authenticate = st.builds(rnaqp.Authenticate, texts, texts)
list_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
maxima = st.integers(1, 65535)

COMMANDS = {
    rnasp: st.builds(rnasp.Notify, some(notifications), maybe(capabilities)),
    rnaqp: st.one_of(
        authenticate,
        st.builds(rnaqp.RetrieveAndClear, maybe(maxima)),
        st.builds(rnaqp.Peek, maybe(octets), maxima),
        st.builds(rnaqp.Clear, some(octets)),
    ),
    msrap: st.one_of(
        authenticate,
        st.builds(msrap.ScanList, list_names, times),
        st.builds(msrap.Silence, keys),
        st.builds(msrap.UnPin, keys),
        st.builds(msrap.QuerySize, keys),
        st.builds(msrap.Retrieve, keys, st.sampled_from(msrap.View), unsigned, unsigned),
        st.builds(msrap.Split, keys, st.integers(1, 1000)),
    ),
    msoap: st.one_of(
        authenticate,
        st.builds(msoap.SubmitEnvelope, some(mailboxes), some(list_names), unsigned),
        st.builds(msoap.SubmitMsgChunk, st.booleans(), unsigned, octets),
        st.builds(msoap.Track, keys),
        st.builds(msoap.Cancel, keys),
    ),
}

submitted = some(st.sampled_from(msoap.SubmissionStatus))
deliveries = st.builds(
    msoap.DeliveryStatus,
    st.sampled_from(msoap.NotificationStatus),
    st.sampled_from(msoap.ReadStatus),
    st.booleans(),
    some(mailboxes),
    maybe(codes),
)
ANSWERS = {
    rnasp: st.one_of(st.just(rnasp.Null()), st.builds(rnasp.NotifyAnswer, maybe(some(outcomes)), maybe(capabilities))),
    rnaqp: st.one_of(
        st.just(rnasp.Null()),
        st.just(rnaqp.Authenticated()),
        st.just(rnaqp.Cleared()),
        st.builds(rnaqp.RetrievedAndCleared, some(items), maybe(st.booleans())),
        st.builds(rnaqp.Peeked, some(items), maybe(st.booleans())),
    ),
    msrap: st.one_of(
        st.just(rnasp.Null()),
        st.just(rnaqp.Authenticated()),
        st.just(msrap.Silenced()),
        st.just(msrap.UnPinned()),
        st.builds(msrap.Scanned, some(keys), times),
        st.builds(msrap.Retrieved, octets, maybe(unsigned)),
        st.builds(msrap.Size, unsigned, maybe(digests), maybe(times)),
        st.builds(msrap.SplitInto, some(keys)),
    ),
    msoap: st.one_of(
        st.just(rnasp.Null()),
        st.just(rnaqp.Authenticated()),
        st.just(msoap.Cancelled()),
        st.builds(msoap.EnvelopeAnswer, submitted, submitted),
        st.builds(msoap.ChunkAnswer, some(keys), maybe(keys)),
        st.builds(msoap.Tracked, deliveries),
    ),
}
PROTOCOLS = [rnasp, rnaqp, msrap, msoap]


def responses(protocol: Any) -> st.SearchStrategy[Any]:
    statuses = getattr(protocol, "Status")  # noqa: B009  # a module as data
    sendable = [s for s in statuses if protocol is not rnaqp or s != rnasp.Status.errornosuchmessage]
    return st.builds(protocol.Response, st.booleans(), st.sampled_from(sendable), ANSWERS[protocol])


# -- round trips


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(data=st.data())
def test_a_command_is_read_as_it_was_meant(protocol: Any, data: st.DataObject) -> None:
    command = data.draw(COMMANDS[protocol])
    read = protocol.decode_command(protocol.encode_command(command))
    assert type(read) is type(command)  # Track(key) == Cancel(key): tuples
    assert read == command


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(data=st.data())
def test_a_response_is_read_as_it_was_meant(protocol: Any, data: st.DataObject) -> None:
    response = data.draw(responses(protocol))
    read = protocol.decode_response(protocol.encode_response(response))
    assert type(read.data) is type(response.data)
    assert read == response


# -- the oracle


@pytest.fixture(scope="session")
def oracle() -> Any:
    return asn1tools.compile_string(files("forwarder.wire").joinpath("im2000.asn1").read_text(), "der")


ARMS = {
    rnasp.Notify: "notify",
    rnasp.NotifyAnswer: "notify",
    rnasp.Null: "null",
    rnaqp.Authenticate: "authenticate",
    rnaqp.Authenticated: "authenticate",
    rnaqp.RetrieveAndClear: "retrieveandclear",
    rnaqp.RetrievedAndCleared: "retrieveandclear",
    rnaqp.Peek: "peek",
    rnaqp.Peeked: "peek",
    rnaqp.Clear: "clear",
    rnaqp.Cleared: "clear",
    msrap.ScanList: "scanlist",
    msrap.Scanned: "scanlist",
    msrap.Silence: "silence",
    msrap.Silenced: "silence",
    msrap.UnPin: "unpin",
    msrap.UnPinned: "unpin",
    msrap.QuerySize: "querysize",
    msrap.Size: "querysize",
    msrap.Retrieve: "retrieve",
    msrap.Retrieved: "retrieve",
    msrap.Split: "split",
    msrap.SplitInto: "split",
    msoap.SubmitEnvelope: "submitenvelope",
    msoap.EnvelopeAnswer: "submitenvelope",
    msoap.SubmitMsgChunk: "submitmsgchunk",
    msoap.ChunkAnswer: "submitmsgchunk",
    msoap.Track: "track",
    msoap.Tracked: "track",
    msoap.Cancel: "cancel",
    msoap.Cancelled: "cancel",
}
NAMES = {
    (msrap.Retrieve, "view"): "type",
    (msrap.Split, "pieces"): "count",
    (rnaqp.RetrievedAndCleared, "items"): "notifications",
    (rnaqp.Peeked, "items"): "notifications",
}
DOMAINS = {"domain", "by", "notifier"}
EMPTY_MEANS_ABSENT = {"trace", "redirects", "text", "redirectedto"}
OPTIONAL_LISTS = {msoap.SubmitEnvelope, msoap.EnvelopeAnswer, msoap.ChunkAnswer}


def foreign(value: Any) -> Any:
    """A value as asn1tools wants it."""
    if isinstance(value, model.ServiceLocation):
        if value.domain is not None:
            return ("domain", value.domain.split("."))
        return ("literals", foreign(value.literals))
    if isinstance(value, rnasp.Capabilities):
        known = ["results", "redirect", "moved", "trace", "digest", "sig", "origin", "durable", "report"]
        ordered = sorted(
            value.features, key=lambda token: (known.index(token) if token in known else len(known), token)
        )
        notifier = {} if value.notifier is None else {"notifier": value.notifier.split(".")}
        return {"version": value.version, "features": ordered, **notifier}
    if isinstance(value, IntEnum):
        return value.name
    if hasattr(value, "_fields"):
        return {
            NAMES.get((type(value), name), name): foreign_field(name, item)
            for name, item in zip(value._fields, value, strict=True)
            if not absent(value, name, item)
        }
    return [foreign(item) for item in value] if isinstance(value, tuple) else value


def absent(value: Any, name: str, item: Any) -> bool:
    if item is None or (name == "raw" and isinstance(value, model.Notification)):
        return True
    return item in ((), "") and (name in EMPTY_MEANS_ABSENT or type(value) in OPTIONAL_LISTS)


def foreign_field(name: str, item: Any) -> Any:
    if name in DOMAINS:
        return item.split(".")
    if name == "address":
        parsed = ip_address(item)
        return (f"version{parsed.version}", parsed.packed)
    return foreign(item)


def module_name(protocol: Any) -> str:
    return str(protocol.__name__).rsplit(".", 1)[1].upper() + "PDU"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(data=st.data())
def test_a_command_is_what_the_compiler_of_our_module_writes(oracle: Any, protocol: Any, data: st.DataObject) -> None:
    command = data.draw(COMMANDS[protocol])
    value = ("command", {"commanddata": (ARMS[type(command)], foreign(command))})
    assert protocol.encode_command(command) == oracle.encode(module_name(protocol), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(data=st.data())
def test_a_response_is_what_the_compiler_of_our_module_writes(oracle: Any, protocol: Any, data: st.DataObject) -> None:
    response = data.draw(responses(protocol))
    body = {
        "forceabort": response.abort,
        "status": response.status.name,
        "responsedata": (ARMS[type(response.data)], foreign(response.data)),
    }
    assert protocol.encode_response(response) == oracle.encode(module_name(protocol), ("response", body))
