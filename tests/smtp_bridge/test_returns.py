"""Return paths: what Postfix's own SRS daemon makes, and what nobody else can make."""

from __future__ import annotations

import shutil
import socket
import string
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from forwarder_smtp_bridge.returns import (
    Forged,
    Forward,
    NotOurs,
    Outgoing,
    ReturnPaths,
    Row,
    SecretsError,
    load_secrets,
)

DOMAIN = "srs.pobox.example"
SECRET = b"a secret of ours, long"
TODAY = datetime(2026, 11, 24, 12, tzinfo=UTC)
POSTSRSD = shutil.which("postsrsd") or shutil.which("postsrsd", path="/usr/sbin")

locals_ = st.text(string.ascii_letters + string.digits + "=+-._", min_size=1, max_size=20).filter(
    lambda text: ".." not in text and text[0] != "." and text[-1] != "."
)
domains = st.from_regex(r"[a-z0-9]{1,10}(-[a-z0-9]{1,5})?\.(example|test)", fullmatch=True)


def returns(*secrets: bytes, hash_length: int = 8, now: datetime = TODAY, domain: str = DOMAIN) -> ReturnPaths:
    return ReturnPaths(domain, secrets or (SECRET,), now=lambda: now, hash_length=hash_length)


def smtp(sender: str, row: int = 7) -> Outgoing:
    return Outgoing("smtp", row, sender)


# -- the table


@pytest.mark.parametrize(
    "message",
    [
        Outgoing("smtp", 7, ""),
        Outgoing("submission", 7, ""),
        Outgoing("report", 7, "mailer-daemon@pobox.example"),
        Outgoing("smtp", 7, "bob@isp.example", returned=True),
        Outgoing("native", 7, "", returned=True),
    ],
)
def test_null_stays_null_and_no_report_begets_a_report(message: Outgoing) -> None:
    assert returns().envelope_sender(message) == ""


@pytest.mark.parametrize("origin", ["smtp", "submission"])
def test_our_own_people_keep_their_addresses(origin: str) -> None:
    ours = Outgoing("smtp", 7, '"Ann B"@pobox.example', ours=True)
    submitted = Outgoing("submission", 7, '"Ann B"@pobox.example')
    assert returns().envelope_sender(ours if origin == "smtp" else submitted) == '"Ann B"@pobox.example'


def test_a_stranger_is_rewritten_and_found_again() -> None:
    made = returns().envelope_sender(smtp("Bob.Smith@Isp.Example"))
    assert made.startswith("SRS0=") and made.endswith("=Isp.Example=Bob.Smith@" + DOMAIN)
    assert returns().reverse(made) == Forward("Bob.Smith@Isp.Example")
    assert returns().reverse(made.lower()) == Forward("bob.smith@isp.example")


def test_three_hops_and_back() -> None:
    first, second, third = (returns(b"%d of the secrets here" % n, domain=f"{n}.example") for n in (1, 2, 3))
    one = first.envelope_sender(smtp("bob@isp.example"))
    two = second.envelope_sender(smtp(one))
    three = third.envelope_sender(smtp(two))
    assert two.startswith("SRS1=") and three.startswith("SRS1=") and three.endswith("@3.example")
    assert third.reverse(three) == Forward(one)  # the second hop is passed over
    assert first.reverse(one) == Forward("bob@isp.example")


def test_our_own_return_path_is_not_rewritten_again() -> None:
    for made in (returns().envelope_sender(smtp("bob@isp.example")), returns().row_path(9)):
        assert returns().envelope_sender(smtp(made)) == made
        assert returns().envelope_sender(smtp(made.upper())) == made.upper()


def test_a_native_message_has_a_path_that_names_its_row() -> None:
    path = returns().envelope_sender(Outgoing("native", 1234))
    local, _, domain = path.partition("@")
    assert len(local) == 22 and local.startswith("b=") and domain == DOMAIN
    assert returns().reverse(path) == returns().reverse(path.upper()) == Row(1234)


@pytest.mark.parametrize(
    "sender",
    [
        "a" * 40 + "@isp.example",  # 64 octets of local part are exceeded
        '"' + "a " * 17 + '"@isp.example',  # by its quotes
        "é" * 20 + "@isp.example",  # by octets, not by characters
        "bob@isp=x.example",  # SRS would split it elsewhere
        "bob",
        "@isp.example",
        '"bob\r\nRCPT TO:<x@y>"@isp.example',
    ],
)
def test_what_srs_cannot_hold_gets_the_path_of_its_row(sender: str) -> None:
    assert returns().reverse(returns().envelope_sender(smtp(sender, row=5))) == Row(5)


@pytest.mark.parametrize(
    "sender", ['"bob smith"@isp.example', '"a@b"@isp.example', r'"q\"x"@a.example', "u@[192.0.2.1]"]
)
def test_quoted_senders_come_back_quoted(sender: str) -> None:
    made = returns().envelope_sender(smtp(sender))
    assert made.startswith('"SRS0=')
    assert returns().reverse(made) == Forward(sender)


@given(locals_, domains)
def test_whatever_goes_out_comes_back(local: str, domain: str) -> None:
    made = returns().envelope_sender(smtp(f"{local}@{domain}", row=3))
    assert len(made.partition("@")[0]) <= 64
    answer = returns().reverse(made)
    if local.lower().startswith(("srs0", "srs1")):
        assert isinstance(answer, Forward)
    else:
        assert answer == (Row(3) if made.startswith("b=") else Forward(f"{local}@{domain}"))


# -- forgeries


def test_a_hash_cut_to_one_character_is_refused_though_the_library_takes_it() -> None:
    made = returns().envelope_sender(smtp("bob@isp.example"))
    tag, found, rest = made.split("=", 2)
    for length in range(8):
        assert returns().reverse(f"{tag}={found[:length]}={rest}") == Forged("hash cut short")
    ours, theirs = returns(b"the first of the secrets"), returns(domain="1.example")
    tag, found, rest = ours.envelope_sender(smtp(theirs.envelope_sender(smtp("bob@isp.example")))).split("=", 2)
    assert tag == "SRS1"
    assert ours.reverse(f"{tag}={found[:7]}={rest}") == Forged("hash cut short")


def test_a_longer_hash_is_verified_to_its_end() -> None:
    long, short = returns(hash_length=12), returns(hash_length=4)
    made = long.envelope_sender(smtp("bob@isp.example"))
    assert short.reverse(made) == Forward("bob@isp.example")
    tag, found, rest = made.split("=", 2)
    spoilt = found[:11] + ("A" if found[11] not in "aA" else "B")
    assert short.reverse(f"{tag}={spoilt}={rest}") == Forged("wrong hash")
    assert long.reverse(short.envelope_sender(smtp("bob@isp.example"))) == Forged("hash cut short")


@given(st.data())
def test_no_character_of_a_return_path_can_be_changed(data: st.DataObject) -> None:
    made = data.draw(st.sampled_from([returns().row_path(77), returns().envelope_sender(smtp("bob@isp.example"))]))
    local, _, domain = made.partition("@")
    at = data.draw(st.integers(5 if local.startswith("SRS") else 2, len(local) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "=-"))
    assume(other.lower() != local[at].lower())
    changed = returns().reverse(f"{local[:at]}{other}{local[at + 1 :]}@{domain}")
    assert isinstance(changed, (Forged, NotOurs))


@given(st.text() | st.text().map(lambda text: f"SRS0={text}@{DOMAIN}") | st.text().map(lambda t: f"b={t}@{DOMAIN}"))
def test_garbage_is_answered(address: str) -> None:
    assert isinstance(returns().reverse(address), (Forged, NotOurs))


@given(st.integers(0, (1 << 40) - 1))
def test_rows_come_back(row: int) -> None:
    assert returns().reverse(returns().row_path(row)) == Row(row)


def test_a_row_is_of_forty_bits() -> None:
    for row in (-1, 1 << 40):
        with pytest.raises(ValueError, match="40 bits"):
            returns().row_path(row)


def test_both_expire_after_their_days() -> None:
    for made in (returns().row_path(7), returns().envelope_sender(smtp("bob@isp.example"))):
        assert not isinstance(returns(now=TODAY + timedelta(days=20)).reverse(made), Forged)
        assert returns(now=TODAY + timedelta(days=21)).reverse(made) == Forged("expired")


def test_other_addresses_are_not_ours() -> None:
    made = returns().envelope_sender(smtp("bob@isp.example"))
    assert returns().reverse(made.replace(DOMAIN, "elsewhere.example")) == NotOurs()
    assert returns().reverse(f"postmaster@{DOMAIN}") == returns().reverse(f"b=short@{DOMAIN}") == NotOurs()


# -- secrets


def _file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "srs.secret"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_secrets_rotate(tmp_path: Path) -> None:
    old = returns(*load_secrets(_file(tmp_path, "the old secret of 2025\n")))
    new = returns(*load_secrets(_file(tmp_path, "the new secret of 2026\n\nthe old secret of 2025\n")))
    only_new = returns(*load_secrets(_file(tmp_path, "the new secret of 2026\n")))
    for made in (old.row_path(4), old.envelope_sender(smtp("bob@isp.example"))):
        assert new.reverse(made) in (Row(4), Forward("bob@isp.example"))
        assert only_new.reverse(made) == Forged("wrong hash")
    assert only_new.reverse(new.row_path(4)) == Row(4)


@pytest.mark.parametrize(
    ("text", "mode", "complaint"),
    [
        ("a secret of ours, long\n", 0o640, "chmod 600"),
        ("a secret of ours, long\n", 0o604, "chmod 600"),
        ("\n \n", 0o600, "no secret"),
        ("a secret of ours, long\nshort\n", 0o600, ":2: .*16 characters"),
        ("# the secrets, newest first\n", 0o600, ":1: comments"),
        ("a secret of ours, long\n" * 17, 0o600, "at most 16"),
        ("s" * 70_000, 0o600, "at most 16"),
    ],
)
def test_a_file_of_secrets_that_cannot_be_used(tmp_path: Path, text: str, mode: int, complaint: str) -> None:
    with pytest.raises(SecretsError, match=complaint) as raised:
        load_secrets(_file(tmp_path, text, mode))
    assert "of ours" not in str(raised.value)


# -- the oracle


class Postsrsd:
    """Its two tables, as Postfix asks them (tcp_table(5))."""

    def __init__(self, secrets: Path) -> None:
        self.ports = (_free_port(), _free_port())
        assert POSTSRSD
        arguments = [f"-s{secrets}", f"-d{DOMAIN}", f"-f{self.ports[0]}", f"-r{self.ports[1]}", "-4", "-n4", "-N4"]
        self.process = subprocess.Popen([POSTSRSD, *arguments])

    def ask(self, table: int, address: str) -> str:
        until = time.monotonic() + 10
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.ports[table]), timeout=10) as line:
                    line.sendall(f"get {address}\n".encode())
                    return line.makefile().readline().strip()
            except ConnectionRefusedError:
                assert time.monotonic() < until, "postsrsd does not answer"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def postsrsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postsrsd]:
    if not POSTSRSD:
        pytest.skip("postsrsd is not installed: apt-get install postsrsd")
    daemon = Postsrsd(_file(tmp_path_factory.mktemp("postsrsd"), "a secret of ours, long\nthe old secret of 2025\n"))
    yield daemon
    daemon.process.terminate()
    daemon.process.wait(10)


STRANGERS = [
    "bob@isp.example",
    "Bob.Smith+tag@Isp.Example",
    "b=ob@x-y.example",
    "SRS0=abcd=ZZ=far.example=bob@first.example",
    "SRS0+abcd=ZZ=far.example=bob@first.example",
    "SRS1=wxyz=first.example==abcd=ZZ=far.example=bob@second.example",
    "SRS1=wxyz=first.example=+abcd=ZZ=far.example=bob@second.example",
]


def _now() -> ReturnPaths:
    return returns(hash_length=4, now=datetime.now(UTC))


@pytest.mark.parametrize("sender", STRANGERS)
def test_it_makes_what_postsrsd_makes_and_reads_what_it_reads(postsrsd: Postsrsd, sender: str) -> None:
    ours, theirs = _now().envelope_sender(smtp(sender)), postsrsd.ask(0, sender)
    if theirs != f"200 {ours}":  # midnight in between
        ours, theirs = _now().envelope_sender(smtp(sender)), postsrsd.ask(0, sender)
    assert theirs == f"200 {ours}"
    assert postsrsd.ask(1, ours) == f"200 {_to(ours)}"
    assert postsrsd.ask(1, ours.lower()).lower() == f"200 {_to(ours.lower())}".lower()


def _to(address: str) -> str:
    answer = _now().reverse(address)
    assert isinstance(answer, Forward)
    return answer.to


def test_postsrsd_and_we_read_an_older_secret(postsrsd: Postsrsd) -> None:
    old = returns(b"the old secret of 2025", hash_length=4, now=datetime.now(UTC)).envelope_sender(
        smtp("bob@isp.example")
    )
    assert postsrsd.ask(1, old) == "200 bob@isp.example"
    both = returns(SECRET, b"the old secret of 2025", hash_length=4, now=datetime.now(UTC))
    assert both.reverse(old) == Forward("bob@isp.example")


def test_both_refuse_what_is_forged(postsrsd: Postsrsd) -> None:
    for forged in ("SRS0=AAAA=ZZ=isp.example=bob", "SRS0=A=ZZ=isp.example=bob", "SRS1=AAAA=isp.example==x=ZZ=y=z"):
        assert postsrsd.ask(1, f"{forged}@{DOMAIN}").startswith("5")
        assert isinstance(_now().reverse(f"{forged}@{DOMAIN}"), Forged)
