"""Our users send with the programs they have, through Postfix: it asks us for passwords, and who may send as whom."""

from __future__ import annotations

import re
import shutil
import smtplib
import ssl
import subprocess
import tempfile
from pathlib import Path

import pytest

from ..program.node import PASSWORD  # noqa: TID252  # the real daemons that other tests have too
from ..program.peers import eventually  # noqa: TID252
from .edge import Edge, body_of, opened

MAIL = b"From: brian@pobox.example\r\nTo: %s\r\nBcc: hidden@world.example\r\nSubject: hello\r\n\r\n.\r\nwords\r\n"


@pytest.fixture(autouse=True)
def ready(edge: Edge) -> None:
    edge.far.got.clear()
    edge.far.refuse.clear()


def client(edge: Edge, *, tls: bool = True) -> smtplib.SMTP:
    made = smtplib.SMTP("127.0.0.1", edge.submission_port, local_hostname="laptop.example", timeout=60)
    made.ehlo()
    if tls:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        made.starttls(context=trusting)
        made.ehlo()
    return made


def log_in(session: smtplib.SMTP, user: str = "brian") -> None:
    """As often as he is told that it is for now: behind wrong passwords from his address he waits for his turn."""

    def done() -> bool:
        try:
            session.login(user, PASSWORD)
        except smtplib.SMTPAuthenticationError as error:
            if b"try again later" not in error.smtp_error:
                raise
            return False
        return True

    eventually(done)


def submit(edge: Edge, sender: str, to: list[str], octets: bytes, user: str = "brian") -> None:
    with client(edge) as session:
        log_in(session, user)
        session.sendmail(sender, to, octets)


def test_one_mail_to_a_colleague_and_to_the_world(edge: Edge, tmp_path: Path) -> None:
    submit(
        edge, "brian@pobox.example", ["freda@pobox.example", "bob@world.example", "hidden@world.example"], MAIL % b"all"
    )
    [read] = edge.reads("freda", tmp_path / "mail")
    letters = {letter.recipients[0]: letter for letter in edge.far.receives(2)}
    assert letters.keys() == {"bob@world.example", "hidden@world.example"}
    assert b"hidden" not in read + letters["bob@world.example"].octets
    for octets in (read, *(letter.octets for letter in letters.values())):
        assert b"\nbcc" not in octets.lower()
        assert body_of(octets).rstrip(b"\n") == b".\nwords"
        assert len(re.findall(rb"(?m)^Message-Id: ", octets, re.IGNORECASE)) == 1
        assert len(re.findall(rb"(?m)^Date: ", octets, re.IGNORECASE)) == 1
    assert {letter.sender for letter in letters.values()} == {"brian@pobox.example"}


def test_who_may_send_as_whom(edge: Edge) -> None:
    edge.node.address("sales@pobox.example", 'strategy = "subscribe"\nkind = "role"\nreaders = ["brian", "freda"]')
    with client(edge) as session:
        log_in(session)
        answers: dict[str, int] = {}
        for sender in ("brian@pobox.example", "sales@pobox.example", "freda@pobox.example", "x@world.example", ""):
            session.docmd("MAIL", f"FROM:<{sender}>")
            answers[sender] = session.docmd("RCPT", "TO:<bob@world.example>")[0]
            session.rset()
    assert answers == {
        "brian@pobox.example": 250,
        "sales@pobox.example": 250,
        "freda@pobox.example": 553,
        "x@world.example": 553,
        "": 554,  # no account could own it, and nobody could be told so later
    }


def test_passwords(edge: Edge) -> None:
    with client(edge) as session:
        for user, password in (("brian", "wrong"), ("nobody", PASSWORD), ("smtpgateway", PASSWORD)):
            with pytest.raises(smtplib.SMTPAuthenticationError):
                session.login(user, password)
        session.docmd("MAIL", "FROM:<brian@pobox.example>")
        assert session.docmd("RCPT", "TO:<bob@world.example>")[0] in (530, 553, 554)
    with client(edge, tls=False) as session:
        assert not session.has_extn("auth")


def test_a_colleague_who_does_not_exist_is_refused_at_once(edge: Edge, tmp_path: Path) -> None:
    with client(edge) as session:
        log_in(session)
        session.docmd("MAIL", "FROM:<brian@pobox.example>")
        code, text = session.docmd("RCPT", "TO:<nobody@pobox.example>")
        assert (code, b"no such mailbox" in text) == (550, True)
        assert session.docmd("RCPT", "TO:<freda@pobox.example>")[0] == 250
        assert session.data(MAIL % b"freda")[0] == 250
    assert len(edge.reads("freda", tmp_path / "freda")) == 1


def test_the_worlds_refusal_comes_back_as_a_report(edge: Edge, tmp_path: Path) -> None:
    edge.far.refuse["bob@world.example"] = b"550 5.7.1 not from you"
    submit(edge, "brian@pobox.example", ["bob@world.example"], MAIL % b"bob")
    [report] = edge.reads("brian", tmp_path / "mail")
    assert b"not from you" in report


def test_while_we_are_down_what_was_taken_waits_in_postfix(edge: Edge, tmp_path: Path) -> None:
    with client(edge) as session:
        log_in(session)
        session.docmd("MAIL", "FROM:<brian@pobox.example>")
        assert session.docmd("RCPT", "TO:<freda@pobox.example>")[0] == 250
        edge.node.stop()
        assert session.data(MAIL % b"freda")[0] == 250
    with client(edge) as session, pytest.raises(smtplib.SMTPException):
        session.login("brian", PASSWORD)
    edge.node.start()
    edge.is_empty()
    assert len(edge.reads("freda", tmp_path / "mail")) == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl IS NOT INSTALLED: apt-get install curl")
def test_curl(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(MAIL % b"by curl")
    words = ["curl", "--no-progress-meter", "--ssl-reqd", "--insecure", "--user", f"brian:{PASSWORD}"]
    words += ["--mail-from", "brian@pobox.example", "--upload-file", str(tmp_path / "mail")]
    words += ["--mail-rcpt", "freda@pobox.example", "--mail-rcpt", "bob@world.example"]
    ended = subprocess.run(
        [*words, f"smtp://127.0.0.1:{edge.submission_port}"], capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    [read] = edge.reads("freda", tmp_path / "box")
    [letter] = edge.far.receives()
    assert b"\nSubject: hello\n" in read and b"\nSubject: hello\r\n" in letter.octets
    assert b"hidden" not in read + letter.octets


def test_a_companys_whole_server_sends_by_one_account_as_anybody() -> None:
    with tempfile.TemporaryDirectory(prefix="forwarder-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        node_of = {"bridge.submission.account": '"company"'}
        with opened(folder, node_of, accounts=("company", "freda")) as edge:
            edge.node.address("freda@pobox.example", 'strategy = "subscribe"\nowner = "freda"\nreaders = ["freda"]')
            to = ["freda@pobox.example", "bob@world.example"]
            submit(edge, "ann@company.example", to, MAIL % b"both", user="company")
            [letter] = edge.far.receives(1)
            assert (letter.sender, letter.recipients) == ("ann@company.example", ["bob@world.example"])
            assert len(edge.reads("freda", folder / "freda")) == 1
            with client(edge) as session:
                log_in(session, "freda")
                for sender, code in (("freda@pobox.example", 250), ("ann@company.example", 553)):
                    session.docmd("MAIL", f"FROM:<{sender}>")
                    assert session.docmd("RCPT", "TO:<bob@world.example>")[0] == code
                    session.rset()
