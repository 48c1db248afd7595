"""docs/protocol.md says what runs: its examples are PDUs, its module ours, its tables and numbers those of the code.

The examples are read by our codec and by asn1tools, compiled from the module; the signature is checked with
`cryptography` alone, by the rule as the document states it.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import itertools
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import asn1tools
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

import forwarder.wire
from forwarder import signature
from forwarder.model import COPIED, FOLLOWED, RESENT, SHARED, Hop, Mailbox, RedirectKind, user_label
from forwarder.net.locate import TWIN
from forwarder.net.user_record import parse_user_record
from forwarder.store.machine import _BEST, Told
from forwarder.wire import msoap, msrap, outcome, rnaqp, rnasp, session
from forwarder.wire.frames import Frames, frame
from forwarder.wire.notification import (
    decode_notification,
    encode_notification,
    hop_tlv,
    original_tlv,
    recipient_tlv,
    splice,
)

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text()
MODULE = Path(forwarder.wire.__file__).with_name("im2000.asn1")
SPEC = asn1tools.compile_files(str(MODULE), "der")
TYPES = asn1tools.parse_files(str(MODULE))["IM2000-Resolved"]["types"]
CODECS: dict[str, Any] = {"rnasp": rnasp, "rnaqp": rnaqp, "msrap": msrap, "msoap": msoap}
WORDS = " ".join(TEXT.split())
UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

# -- the document taken apart


class Line(NamedTuple):
    """Of an example: its octets, and what is said of them."""

    octets: bytes
    note: str


class Example(NamedTuple):
    protocol: str
    side: str
    lines: list[Line]

    @property
    def octets(self) -> bytes:
        return b"".join(line.octets for line in self.lines)


def blocks(info: str) -> Iterator[tuple[str, str]]:
    """Fenced blocks whose info string begins so: the rest of it, and their text."""
    for found in re.finditer(rf"^```{info}\b *([^\n]*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def lines_of(block: str) -> list[Line]:
    """Octets stand in runs of hex with single blanks; what is said of them after two blanks."""
    lines = []
    for text in block.splitlines():
        found = re.fullmatch(r" *((?:[0-9a-f]{2})+(?: (?:[0-9a-f]{2})+)*)(?:  +(.*))?", text)
        assert found, f"neither octets nor a note: {text}"
        lines.append(Line(bytes.fromhex(found[1]), found[2] or ""))
    return lines


def rows(heading: str) -> list[list[str]]:
    """The table whose heading row begins so, without its first two lines."""
    at = TEXT.index(f"\n| {heading}") + 1
    table = itertools.takewhile(lambda line: line.startswith("|"), TEXT[at:].splitlines())
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in list(table)[2:]]


EXAMPLES = [
    Example(protocol, side, lines_of(text)) for info, text in blocks("pdu") for protocol, side in [info.split()]
]
SIGNED = b"".join(line.octets for _, text in blocks("notification") for line in lines_of(text))
VECTOR = dict(line.split(maxsplit=1) for _, text in blocks("signature") for line in text.splitlines())


def elements(content: bytes) -> dict[int, bytes]:
    """The elements of a content by their tags."""
    found, at = {}, 0
    while at < len(content):
        count, body = content[at + 1], at + 2
        if count & 0x80:
            body += count & 0x7F
            count = int.from_bytes(content[at + 2 : body], "big")
        found[content[at]] = content[at : body + count]
        at = body + count
    return found


def inside(element: bytes) -> bytes:
    return element[2 + (element[1] & 0x7F if element[1] & 0x80 else 0) :]


def tlv(tag: int, content: bytes) -> bytes:
    assert len(content) < 256
    return bytes([tag, len(content)]) + content if len(content) < 128 else bytes([tag, 0x81, len(content)]) + content


# -- examples


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.protocol} {e.lines[0].note} {e.lines[1:2]}"[:60])
def test_an_example_is_what_both_codecs_read_and_write(example: Example) -> None:
    codec, top = CODECS[example.protocol], f"{example.protocol.upper()}PDU"
    decoded = getattr(codec, f"decode_{example.side}")(example.octets)
    assert getattr(codec, f"encode_{example.side}")(decoded) == example.octets
    side, value = SPEC.decode(top, example.octets)
    assert side == example.side
    assert SPEC.encode(top, (side, value)) == example.octets


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.protocol} {e.lines[0].note}"[:60])
def test_what_is_said_of_the_octets_of_an_example_is_so(example: Example) -> None:
    for octets, note in example.lines:
        word = note.split()[-1] if note else ""
        if quoted := re.search(r'"(.*)"', note):
            assert quoted[1].encode() in octets, note
        elif word.isdigit():
            assert int.from_bytes(octets[2:], "big") == int(word), note
        elif re.fullmatch(r"(\S+@)?[a-z]+\.example", word):
            assert all(part.encode() in octets for part in re.split(r"[@.]", word)), note
        elif word in ("TRUE", "FALSE"):
            assert octets[2:] == (b"\xff" if word == "TRUE" else b"\0"), note


def test_every_command_and_every_response_has_an_example() -> None:
    shown = set()
    for example in EXAMPLES:
        side, value = SPEC.decode(f"{example.protocol.upper()}PDU", example.octets)
        shown.add((example.protocol, side, value["commanddata" if side == "command" else "responsedata"][0]))
    for protocol, side in itertools.product(CODECS, ("command", "response")):
        choice = next(m for m in TYPES[f"{protocol.title()}{side.title()}"]["members"] if m and m["type"] == "CHOICE")
        arms = {arm["name"] for arm in choice["members"]} - {"null"}
        assert arms == {a for p, s, a in shown if (p, s) == (protocol, side)} - {"null"}, (protocol, side)


def test_every_element_of_a_notification_has_an_example() -> None:
    known = {member["name"] for member in TYPES["Notification"]["members"] if member}
    said = {line.note.split()[0] for example in EXAMPLES for line in example.lines if line.note}
    assert known <= said


def test_a_frame() -> None:
    [(_, block)] = blocks("octets")
    frames = Frames(session.RNASP.response_limit)
    [line] = lines_of(block)
    frames.receive_data(line.octets)
    pdu = frames.next_pdu()
    assert pdu == rnasp.encode_response(rnasp.Response(False, rnasp.Status.noerror, rnasp.NotifyAnswer()))
    assert frames.empty


def test_the_module_is_ours() -> None:
    [(_, block)] = blocks("asn1")
    comment, module = re.split(r"(?m)^(?=IM2000-Resolved)", MODULE.read_text())
    assert block == module
    assert all(line.startswith("--") for line in comment.splitlines())


# -- tables


def closes_after(protocol: session.Protocol, status: str) -> bool:
    """Whether a server that answers a command with it has ended the session."""
    server = session.ServerSession(protocol)
    command = next(e.octets for e in EXAMPLES if (e.protocol, e.side) == (protocol.name, "command"))
    server.receive_data(frame(command))
    server.next_event()
    server.send(protocol.error(status))
    return server.state is session.State.CLOSED


def test_status_numbers() -> None:
    names = set()
    for name, three, own, abort, after in rows("status | RNASP"):
        names.add(name)
        closed = {"closed": True, "goes on": False}[after]
        for number, room, protocol in ((three, rnasp, session.RNASP), (own, msoap, session.MSOAP)):
            if number != "-":
                assert room.Status[name] == int(number.split(",")[0])
                assert protocol.error(name).abort is (abort == "yes")
                assert closes_after(protocol, name) is closed
    assert names == set(rnasp.Status.__members__) | set(msoap.Status.__members__)


def test_codes() -> None:
    """All that the code has names for; the classes have names there too, and no row."""
    told = {name.upper(): int(code) for code, name, _ in rows("code | name")}
    named = {name: value for name, value in vars(outcome).items() if type(value) is int and name[0] != "_"}
    assert named.items() - told.items() == {("TAKEN", 0), ("REDIRECT", 1), ("TEMPORARY", 2), ("PERMANENT", 3)}
    assert told.items() <= named.items()
    assert outcome.code_class(63) == outcome.PERMANENT
    assert outcome.code_class(64) == outcome.code_class(255) == outcome.TEMPORARY


def test_tokens() -> None:
    [line] = re.findall(r"Tokens: (.*?)\.", WORDS)
    assert tuple(re.findall(r"`(\w+)`", line)) == rnasp._TOKENS


def test_names_of_services() -> None:
    labels = {f"_im2000-{service}._tcp": f"_im2000-{twin}._tcp" for service, twin in TWIN.items()}
    assert {clear.strip("`"): secure.strip("`") for _, clear, secure, _ in rows("service | label")} == labels


def test_marks_of_a_hop() -> None:
    said = TEXT[TEXT.index("| how | 1 |") :].splitlines()[2].strip("|").split("|")[1:]
    for mark, word in ((FOLLOWED, "followed"), (SHARED, "shared"), (RESENT, "resent to one"), (COPIED, "copied")):
        assert word in said[mark - 1]


def test_kinds_of_a_redirect() -> None:
    [said] = re.findall(r"`kind` 0 is (\w+) [^.]*, 1 for now, 2 a (\w+)", WORDS)
    assert said == (RedirectKind(0).name, RedirectKind(2).name)


def test_the_order_in_which_track_folds() -> None:
    [order] = re.findall(r"the best of \(([a-z, ]+)\)", WORDS)
    assert [Told[name] for name in order.split(", ")] == list(_BEST)


def number(text: str) -> float:
    found = re.fullmatch(r"([\d.]+) ?(\w*)", text)
    assert found, text
    return float(found[1]) * UNITS[found[2]]


def in_code(path: str) -> float:
    """`room.file.NAME`, or `room.file.Table.key`: its default."""
    parts = path.split(".")
    for at in range(len(parts) - 1, 0, -1):
        try:
            value: Any = importlib.import_module(".".join(["forwarder", *parts[:at]]))
        except ModuleNotFoundError:
            continue
        for name in parts[at:]:
            fields = getattr(value, "model_fields", {})
            value = fields[name].default if name in fields else getattr(value, name)
        return value.total_seconds() if isinstance(value, timedelta) else float(value)
    raise AssertionError(path)


@pytest.mark.parametrize(("said", "path"), [row[1:] for row in rows("what | number")], ids=lambda text: text)
def test_a_number(said: str, path: str) -> None:
    assert number(said) == in_code(path)


# -- the DNS


def test_labels_of_users() -> None:
    table = rows("mailbox | label")
    assert len(table) > 3
    for mailbox, label in table:
        localpart = mailbox.strip("`").rpartition("@")[0]
        assert label.strip("`") == user_label(localpart) == hashlib.sha256(localpart.lower().encode()).hexdigest()[:56]


def test_records_of_users() -> None:
    records = [line for _, block in blocks("dns") for line in block.splitlines() if "_im2000-user" in line]
    parsed = [parse_user_record(text) for line in records for text in re.findall(r'"(.*)"', line)]
    assert all(parsed)
    assert [(r.to, r.group, r.rna) for r in parsed if r] == [
        (Mailbox("bob", "isp.example"), 1, "isp.example"),
        (Mailbox("brian", "home.example"), 2, "mx.home.example"),
        (Mailbox("all else", "pobox.example"), 0, "pobox.example"),
    ]
    assert records[0].startswith(user_label("brian"))


# -- the signature


def covered(notification: bytes) -> bytes:
    """By the words of 11.3."""
    found = elements(inside(notification))
    first = b"\xa2" + found[0xB1][1:] if 0xB1 in found else found[0xA2]
    parts = [found.get(tag, b"") for tag in (0xA0, 0xA1)] + [first]
    parts += [found.get(tag, b"") for tag in (0x83, 0x84, 0x85, 0xB0, 0x95, 0xB9)]
    emptied = b"".join(b"\x84\0" if tag == 0x84 else octets for tag, octets in elements(inside(found[0xB6])).items())
    return b"im2000-notify-1\0" + tlv(0x30, b"".join(parts) + tlv(0xB6, emptied))


def test_the_signature_of_the_document() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTOR["private"]))
    owner, text = re.fullmatch(r'(\S+)\. \d+ IN TXT "(.*)"', VECTOR["record"]).groups()  # type: ignore[union-attr]
    public = base64.b64decode(text.rpartition("p=")[2])
    value = inside(elements(inside(elements(inside(SIGNED))[0xB6]))[0x84])
    assert private.public_key().public_bytes_raw() == public
    assert covered(SIGNED).hex() == VECTOR["covered"]
    assert value.hex() == VECTOR["value"]
    Ed25519PublicKey.from_public_bytes(public).verify(value, covered(SIGNED))
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(public).verify(value, covered(SIGNED.replace(b"toby", b"tobi")))

    ours = decode_notification(SIGNED)
    assert signature.question(ours) == owner
    assert signature.judge(ours, [text]) == "good"
    assert encode_notification(ours) == SIGNED


def test_it_survives_a_forward_by_the_rule_of_the_document() -> None:
    brian, bob = Mailbox("brian", "pobox.example"), Mailbox("bob", "isp.example")
    hop = hop_tlv(Hop("mx.example", b"12345678", 1_800_000_000, RESENT))
    ours = decode_notification(SIGNED)
    passed_on = splice(ours, recipient_tlv(bob), original=original_tlv(brian), hop=hop)
    assert decode_notification(passed_on).recipient == bob
    assert covered(passed_on) == covered(SIGNED)


# -- the way here from the code


def test_every_section_that_the_code_names_is_in_the_last_table() -> None:
    there = " ".join(f"{row[0]} {row[1]}" for row in rows("there | what"))
    named = set()
    for path in (ROOT / "forwarder").rglob("*.py"):
        named |= set(re.findall(r"\(?protocol(?:\.md)? (\d(?:\.\d+)?)", path.read_text()))
    assert named
    for section in named:
        whole, _, part = section.partition(".")
        if whole in "78" and part:  # questions and security notes go by their numbers
            assert f"| {whole} (" in TEXT
        else:
            assert re.search(rf"(?<![\d.]){re.escape(section)}(?![\d.])", there), section


def test_its_references_to_itself_lead_somewhere() -> None:
    headings = set(re.findall(r"(?m)^#+ (\d+(?:\.\d+)?)\.? ", TEXT))
    body = TEXT[: TEXT.index("## 14.")]
    referred = set(re.findall(r"\((\d+\.\d+)(?:, \d+\.\d+)*\)", body))
    assert referred <= headings, referred - headings
    for _, _, here in rows("there | what"):
        assert set(re.findall(r"\d+(?:\.\d+)?", re.sub(r"rows .*", "", here))) <= headings, here
