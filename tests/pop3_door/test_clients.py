"""The mail programs people have, over real loopback sockets. Each is skipped, loudly, where it is not installed.

What is tried with each: all mail comes whole, is marked and removed; mail whose store is dead hides nothing else.
"""

from __future__ import annotations

import mailbox
import os
import poplib
import shlex
import shutil
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from .conftest import Certified, OpenDoor
from .house import BUN, TEA, Mailbag
from .thunderbird import started

LONG = b"Subject: long\r\n\r\n" + b".\r\n..\r\nabc\r\n" * 20_000 + b"\r\n\r\n"
EIGHT = b"Subject: eight bits\r\nFrom: a@b.example\r\n\r\n\xc3\xa9\xff\r\n.\r\n \r\n.end\r\n"
ALL = [TEA, BUN, LONG, EIGHT]


def bag_of_all() -> Mailbag:
    """Beside them one that is gone, and one whose store is dead."""
    bag = Mailbag(*ALL)
    bag.put(TEA, "dead.example")
    bag.put(BUN)
    bag.lose(6)
    bag.down = {"dead.example"}
    return bag


def done(bag: Mailbag) -> list[bytes]:
    """What was cleared at a QUIT."""
    return [item.position for items, _ in bag.done for item in items]


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} IS NOT INSTALLED: the door is not tried with it")
    return found


async def run(*command: str, env: dict[str, str] | None = None, fine: tuple[int, ...] = (0,)) -> bytes:
    with trio.fail_after(30):
        ended = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env={**os.environ, **(env or {})}
        )
    assert ended.returncode in fine, (ended.returncode, ended.stdout[-2000:], ended.stderr[-2000:])
    return ended.stdout


def read_box(path: Path) -> list[tuple[str, bytes]]:
    """(subject, body) of each, line ends and trailing ones aside: mbox keeps neither."""
    found: list[tuple[str, bytes]] = []
    with closing(mailbox.mbox(str(path), create=False)) as box:
        for message in box:
            body = message.get_payload(decode=True)
            assert isinstance(body, bytes)
            found.append((str(message["Subject"]), as_kept(body)))
    return found


def as_kept(body: bytes) -> bytes:
    return body.replace(b"\r\n", b"\n").rstrip(b"\n")


def expected() -> list[tuple[str, bytes]]:
    subjects = ["tea", "buns", "long", "eight bits"]
    bodies = [as_kept(body.partition(b"\r\n\r\n")[2]) for body in ALL]
    return list(zip(subjects, bodies, strict=True))


# -- poplib


async def in_thread(work: Callable[[], Any]) -> Any:
    with trio.fail_after(30):
        return await trio.to_thread.run_sync(work)


def read_all(client: poplib.POP3) -> list[bytes]:
    client.user("brian")
    client.pass_("right")
    count, octets = client.stat()
    bodies: list[bytes] = []
    for number in range(1, count + 1):
        _, lines, _ = client.retr(number)
        bodies.append(b"".join(line + b"\r\n" for line in lines))
        client.top(number, 0)
        assert len(client.uidl(number).split()[2]) == 24
        client.dele(number)
    assert octets == sum(map(len, bodies))
    client.quit()
    return bodies


@pytest.mark.parametrize("way", ["clear", "STLS", "TLS"])
async def test_poplib(way: str, open_door: OpenDoor, certified: Certified) -> None:
    bag = bag_of_all()
    more = {"tls": None if way == "clear" else certified.server, "secure": way == "TLS"}
    async with open_door(bag, clear=way == "clear", **more) as opened:

        def work() -> list[bytes]:
            if way == "TLS":
                return read_all(poplib.POP3_SSL("localhost", opened.port, timeout=10, context=certified.client))
            client = poplib.POP3("localhost", opened.port, timeout=10)
            if way == "STLS":
                client.stls(context=certified.client)
            return read_all(client)

        assert await in_thread(work) == ALL
    assert done(bag) == [b"1", b"2", b"3", b"4"]


async def test_poplib_takes_no_part_for_the_whole(open_door: OpenDoor) -> None:
    bag = Mailbag(LONG)
    bag.torn[bag.items[0].notification.identifier] = 100_000
    bag.slice = 30_000

    def work() -> None:
        client = poplib.POP3("127.0.0.1", opened.port, timeout=10)
        client.user("brian")
        client.pass_("right")
        with pytest.raises((poplib.error_proto, OSError)):
            client.retr(1)
        client.close()

    async with open_door(bag, buffer=1000) as opened:
        await in_thread(work)


# -- curl


@pytest.mark.parametrize("way", ["clear", "STLS", "TLS"])
async def test_curl(way: str, open_door: OpenDoor, certified: Certified) -> None:
    curl = need("curl")
    bag = bag_of_all()
    more = {"tls": None if way == "clear" else certified.server, "secure": way == "TLS"}
    async with open_door(bag, clear=way == "clear", **more) as opened:
        place = f"{'pop3s' if way == 'TLS' else 'pop3'}://localhost:{opened.port}"
        options = ["-sS", "--max-time", "20", "-u", "brian:right", "--cacert", str(certified.authority)]
        options += ["--ssl-reqd"] if way == "STLS" else []
        for number, body in enumerate(ALL, 1):
            assert await run(curl, *options, f"{place}/{number}") == body
        listed = await run(curl, *options, f"{place}/")
        assert listed == b"".join(b"%d %d\r\n" % (n, len(body)) for n, body in enumerate(ALL, 1))
        await run(curl, *options, "-X", "DELE 2", "-I", f"{place}/")
    assert done(bag) == [b"2"]


# -- fetchmail


async def fetch(folder: Path, port: int, *options: str, fine: tuple[int, ...] = (0,)) -> Path:
    box = folder / "box"
    rc = folder / "fetchmailrc"
    mda = folder / "mda"
    deliver = "{ echo 'From x Thu Jan  1 00:00:00 1970'; sed 's/^From />From /'; echo; }"
    mda.write_text(f"#!/bin/sh\n{deliver} >> {shlex.quote(str(box))}\n")
    mda.chmod(0o700)
    rc.write_text(
        f"poll localhost service {port} protocol pop3 timeout 15 uidl\n"
        f'  user "brian" password "right" mda "{mda}" {" ".join(options)}\n'
    )
    rc.chmod(0o600)
    await run(
        *(need("fetchmail"), "-f", str(rc), "--pidfile", str(folder / "pid"), "--nosyslog", "--invisible"),
        env={"FETCHMAILHOME": str(folder), "HOME": str(folder)},
        fine=fine,
    )
    return box


@pytest.mark.parametrize("way", ["clear", "STLS", "TLS"])
async def test_fetchmail(way: str, open_door: OpenDoor, certified: Certified, tmp_path: Path) -> None:
    need("fetchmail")
    bag = bag_of_all()
    more = {"tls": None if way == "clear" else certified.server, "secure": way == "TLS"}
    trust = f'sslcertck sslcertfile "{certified.authority}"'
    options = {"clear": "sslproto ''", "STLS": f"sslproto TLS1+ {trust}", "TLS": f"ssl {trust}"}[way]
    async with open_door(bag, clear=way == "clear", **more) as opened:
        box = await fetch(tmp_path, opened.port, options, "fetchall", "nokeep")
        assert read_box(box) == expected()
        assert done(bag) == [b"1", b"2", b"3", b"4"]
        await fetch(tmp_path, opened.port, options, fine=(1,))  # 1: no mail


async def test_fetchmail_that_keeps_takes_each_once(open_door: OpenDoor, tmp_path: Path) -> None:
    need("fetchmail")
    bag = Mailbag(TEA, BUN)
    async with open_door(bag) as opened:
        await fetch(tmp_path, opened.port, "sslproto ''", "keep")
        bag.put(EIGHT)
        box = await fetch(tmp_path, opened.port, "sslproto ''", "keep")
        assert [subject for subject, _ in read_box(box)] == ["tea", "buns", "eight bits"]
    assert done(bag) == []


async def test_fetchmail_goes_on_after_a_message_that_cannot_be_had(open_door: OpenDoor, tmp_path: Path) -> None:
    need("fetchmail")
    bag = Mailbag(TEA, BUN, EIGHT)
    bag.faulty = {bag.items[1].notification.identifier}
    async with open_door(bag) as opened:
        box = await fetch(tmp_path, opened.port, "sslproto ''", "fetchall", "nokeep", fine=(0, 1, 7))
        assert "tea" in [subject for subject, _ in read_box(box)]
        assert b"2" not in done(bag)


# -- mpop


async def mpop(folder: Path, port: int, *options: str, fine: tuple[int, ...] = (0,)) -> Path:
    box, rc = folder / "box", folder / "mpoprc"
    lines = ["account a", "host localhost", f"port {port}", "user brian", "auth plain", "timeout 15"]
    lines += [f"delivery mbox {box}", f"uidls_file {folder}/uidls", "received_header off", "passwordeval echo right"]
    rc.write_text("\n".join([*lines, *options, "account default : a\n"]))
    rc.chmod(0o600)
    await run(need("mpop"), f"--file={rc}", "-Q", env={"HOME": str(folder)}, fine=fine)
    return box


@pytest.mark.parametrize("way", ["clear", "STLS", "TLS"])
async def test_mpop(way: str, open_door: OpenDoor, certified: Certified, tmp_path: Path) -> None:
    need("mpop")
    bag = bag_of_all()
    more = {"tls": None if way == "clear" else certified.server, "secure": way == "TLS"}
    trust = f"tls_trust_file {certified.authority}"
    options = {"clear": ["tls off"], "STLS": ["tls on", trust], "TLS": ["tls on", "tls_starttls off", trust]}[way]
    async with open_door(bag, clear=way == "clear", **more) as opened:
        box = await mpop(tmp_path, opened.port, *options, "keep off")
        assert read_box(box) == expected()
    assert done(bag) == [b"1", b"2", b"3", b"4"]


async def test_mpop_pipelines_a_thousand(open_door: OpenDoor, tmp_path: Path) -> None:
    need("mpop")
    bag = Mailbag(*[BUN] * 1000)
    async with open_door(bag) as opened:
        box = await mpop(tmp_path, opened.port, "tls off", "keep off", "pipelining on")
        assert len(read_box(box)) == 1000
    assert len(done(bag)) == 1000


# -- mutt


async def test_mutt(open_door: OpenDoor, certified: Certified, tmp_path: Path) -> None:
    mutt, script = need("mutt"), need("script")
    bag = bag_of_all()
    box, rc = tmp_path / "box", tmp_path / "muttrc"
    (tmp_path / "Mail").mkdir()
    async with open_door(bag, clear=False, tls=certified.server) as opened:
        rc.write_text(
            f"""
            set ssl_ca_certificates_file={certified.authority} certificate_file="" ssl_starttls=yes
            set pop_user=brian pop_pass=right pop_delete=yes pop_checkinterval=60
            set confirmcreate=no confirmappend=no quit=yes delete=yes mbox_type=mbox wait_key=no
            set header_cache="" message_cachedir=""
            push "<tag-pattern>~A<enter><tag-prefix><save-message><kill-line>{box}<enter><quit>"
            """
        )
        command = f"{mutt} -F {rc} -f pop://brian@localhost:{opened.port}/"
        await run(script, "-qec", command, str(tmp_path / "typed"), env={"HOME": str(tmp_path), "TERM": "xterm"})
        assert read_box(box) == expected()
    assert done(bag) == [b"1", b"2", b"3", b"4"]


# -- Thunderbird


async def test_thunderbird_takes_all_and_ends_at_no_dead_store(open_door: OpenDoor, tmp_path: Path) -> None:
    """It ends its session at the first -ERR to RETR, and would never come to what stands behind."""
    program, bag = need("thunderbird"), bag_of_all()
    async with open_door(bag) as opened, started(program, tmp_path, opened.port, keep=False) as thunderbird:
        assert await thunderbird.fetch() == (True, [subject for subject, _ in expected()])
        assert read_box(thunderbird.inbox) == expected()
        assert done(bag) == [b"1", b"2", b"3", b"4"]
        bag.put(BUN)
        assert await thunderbird.fetch() == (True, [*(subject for subject, _ in expected()), "buns"])
        assert len(done(bag)) == 5


async def test_thunderbird_leaves_mail_and_takes_it_once(open_door: OpenDoor, tmp_path: Path) -> None:
    program, bag = need("thunderbird"), Mailbag(TEA, BUN)
    async with open_door(bag) as opened, started(program, tmp_path, opened.port, keep=True) as thunderbird:
        for _ in range(2):
            assert await thunderbird.fetch() == (True, ["tea", "buns"])
    assert done(bag) == []


def test_the_oracles_context_trusts_nobody_else(certified: Certified) -> None:
    """Else the TLS tests above would prove nothing."""
    assert certified.client.verify_mode is ssl.CERT_REQUIRED
