"""What the document says of octets, held against itself by a codec that was made from nothing else."""

from __future__ import annotations

import ast
import base64
import re
import sys
from pathlib import Path

import pytest

from . import ed25519
from .der import Malformed, UnknownArm, element
from .module import DOCUMENT, decode, encode
from .notices import covered, rewritten, sign, verified
from .users import label, targets

TEXT = DOCUMENT.read_text("utf-8")
EXAMPLES = re.findall(r"```pdu (\w+) (\w+)\n(.*?)```", TEXT, re.S)


def octets(block: str) -> bytes:
    """The hex of an example: groups parted by one space, the words after two."""
    return bytes.fromhex("".join(re.split(r"\s{2,}", line.strip())[0] for line in block.splitlines()))


def worked() -> tuple[bytes, dict[str, str]]:
    """The signed notification of 11.3 and the lines beside it."""
    [notification] = re.findall(r"```notification\n(.*?)```", TEXT, re.S)
    [lines] = re.findall(r"```signature\n(.*?)```", TEXT, re.S)
    return octets(notification), dict(line.split(maxsplit=1) for line in lines.splitlines())


def test_the_stranger_knows_the_document_and_nothing_of_the_program() -> None:
    ours = [path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith(("test_", "conftest"))]
    assert len(ours) > 5
    for path in ours:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 1 or (node.module or "").partition(".")[0] in sys.stdlib_module_names, path.name
            elif isinstance(node, ast.Import):
                assert all(name.name.partition(".")[0] in sys.stdlib_module_names for name in node.names), path.name


def test_every_example_is_read_and_written_by_the_module_that_stands_beside_it() -> None:
    assert len(EXAMPLES) > 40
    for protocol, what, block in EXAMPLES:
        came = octets(block)
        arm, value = decode(f"{protocol.upper()}PDU", came)
        assert (arm, encode(f"{protocol.upper()}PDU", (arm, value))) == (what, came)


def test_the_worked_signature_comes_out_of_its_private_key() -> None:
    notification, told = worked()
    record = decode("Notification", notification)
    secret, key = bytes.fromhex(told["private"]), base64.b64decode(told["record"].partition("p=")[2].strip('"'))
    assert ed25519.public(secret) == key
    assert covered(record.raw).hex() == told["covered"]
    unsigned = {name: value for name, value in record.items() if name != "signature"}
    assert encode("Notification", sign(unsigned, secret, "s1", "store.example", 1800000000)) == notification
    assert verified(record, key)
    assert not verified(decode("Notification", notification.replace(b"toby", b"tobi")), key)


def test_a_rewritten_notification_keeps_its_signature_and_what_nobody_knows() -> None:
    notification, told = worked()
    key = base64.b64decode(told["record"].partition("p=")[2].strip('"'))
    strange = element(0x9E, b"unheard of")
    came = decode("Notification", element(0x30, decode("Notification", notification).raw + strange))
    passed = rewritten(came, "bob@isp.example", {"by": ["mx", "example"], "at": 1800000000, "how": 3})
    assert passed["original"] == came["recipient"]
    assert passed["hops"] == 1
    assert passed.raw.endswith(strange)
    assert verified(passed, key)


@pytest.mark.parametrize(
    "wrong",
    [
        "a20a800100810100a202a10000",  # an octet more
        "a20b80020000810100a202a100",  # a BOOLEAN of two octets
        "a20a800100810108a202a100",  # no such status
        "a20a810100800100a202a100",  # out of order
        "a2810a800100810100a202a100",  # a length that is not the shortest
    ],
)
def test_what_chapter_3_forbids_is_malformed(wrong: str) -> None:
    with pytest.raises(Malformed):
        decode("RNASPPDU", bytes.fromhex(wrong))


def test_an_unknown_arm_is_told_apart_from_bad_octets() -> None:
    with pytest.raises(UnknownArm):
        decode("RNAQPPDU", bytes.fromhex("a104a002be00"))


def test_the_labels_and_records_of_users_are_those_of_the_document() -> None:
    rows = re.findall(r"^\| `([^`]+)@pobox.example` \| `([0-9a-f]{56})` \|", TEXT, re.M)
    assert len(rows) == 4
    assert all(label(localpart) == told for localpart, told in rows)
    records = re.findall(r'IN TXT "(v=im2k1; to=[^"]+)"', TEXT)
    assert [(one.to, one.rna) for one in targets(records)] == [
        ("all else@pobox.example", "pobox.example"),
        ("bob@isp.example", "isp.example"),
        ("brian@home.example", "mx.home.example"),
    ]
