"""The record of a user: what the writer writes the reader reads; anything else that is not its grammar is void."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.model import Mailbox, format_user_record, user_label, user_record_line
from forwarder.net.user_record import parse_user_record, parse_user_records
from forwarder.ports import UserRecord

LOCALPARTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60
)  # up to 240 octets: the limit is 255
DOMAINS = st.sampled_from(["isp.example", "xn--bcher-kva.example", f"{user_label('x')}._im2000-user.pobox.example"])


@given(
    st.none() | st.builds(Mailbox, LOCALPARTS, DOMAINS),
    st.none() | DOMAINS,
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.booleans(),
)
def test_what_is_written_is_read(to: Mailbox | None, rna: str | None, group: int, pri: int, permanent: bool) -> None:
    text = format_user_record(to, rna, group, pri, permanent)
    assert parse_user_record(text) == UserRecord(to, rna or (to.domain if to else ""), group, pri, permanent)
    line = user_record_line(user_label("brian"), text, 60)
    strings = re.findall(r'"([^"]*)"', line)
    assert "".join(strings) == text
    assert all(len(string) <= 255 for string in strings)


@pytest.mark.parametrize(
    ("text", "record"),
    [
        ("v=im2k1; to=bob@isp.example; g=1; pri=10", (("bob", "isp.example"), "isp.example", 1, 10, False)),
        ("v=im2k1;to=bob@isp.example;k=perm;", (("bob", "isp.example"), "isp.example", 0, 10, True)),
        (" v = im2k1 ; to = a%20b@ISP.example ", (("a b", "isp.example"), "isp.example", 0, 10, False)),
        ("v=im2k1; new=x:y/z; to=bob@b%C3%BCcher.example", (("bob", "xn--bcher-kva.example"),) * 1),
        ("v=im2k1; to=", (None, "", 0, 10, False)),
        ("v=im2k1; to=%40@isp.example", (("@", "isp.example"), "isp.example", 0, 10, False)),
    ],
)
def test_forms_that_are_read(text: str, record: tuple[object, ...]) -> None:
    parsed = parse_user_record(text)
    assert parsed is not None
    assert tuple(parsed)[: len(record)] == record


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v=im2k1",
        "v=im2k2; to=bob@isp.example",
        "to=bob@isp.example; v=im2k1",
        "v=im2k1; to=bob@isp.example; to=bob@isp.example",
        "v=im2k1; to=bob@isp.example;;",
        "v=im2k1; to=bob",
        "v=im2k1; to=@isp.example",
        "v=im2k1; to=bob@",
        "v=im2k1; to=bob@isp..example",
        "v=im2k1; to=b+b@isp.example",
        "v=im2k1; to=%4@isp.example",
        "v=im2k1; to=%ff@isp.example",
        "v=im2k1; to=%0a@isp.example",
        "v=im2k1; to=" + "a" * 256 + "@isp.example",
        "v=im2k1; to=bob@isp.example; g=",
        "v=im2k1; to=bob@isp.example; g=-1",
        "v=im2k1; to=bob@isp.example; g=65536",
        "v=im2k1; to=bob@isp.example; pri=1x",
        "v=im2k1; to=bob@isp.example; pri=\u0661",
        "v=im2k1; to=bob@isp.example; k=often",
        "v=im2k1; to=bob@isp.example; rna=",
        "v=im2k1; to=bob@isp.example; rna=a b",
        "v=im2k1; to=bob@isp.example; G=1",
        "v=im2k1; to=bob@isp.example; broken",
        "v=im2k1; to=bob@isp.example; x=\ufffd",
    ],
)
def test_forms_that_void_the_record(text: str) -> None:
    assert parse_user_record(text) is None


@given(st.text(max_size=60), st.sampled_from(["", "v=im2k1;", "v=im2k1; to="]))
def test_noise_is_void_or_a_record(text: str, before: str) -> None:
    record = parse_user_record(before + text)
    assert record is None or record.to is None or record.to.domain


def test_of_many_records_the_first_ten_count() -> None:
    texts = [format_user_record(Mailbox(f"m{n:02}", "x.example"), group=n % 3, priority=n % 2) for n in range(20)]
    records = parse_user_records(reversed(texts))
    everything = [record for record in map(parse_user_record, texts) if record]
    assert list(records) == sorted(everything, key=lambda r: (r.group, r.priority, str(r.to)))[:10]
