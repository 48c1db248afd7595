"""DNS answers a second in one process over loopback UDP, beside a bare echo and, where it is installed, nsd.

    python benchmarks/dns_answers.py [--users 10000] [--seconds 3] [--rounds 3]

Each server is a process of its own, each is asked by the same client in turn: a window of queries is kept under way
over one socket. `ready` asks for 1,000 users again and again (answers kept), `made` for as many as there are in
changing case (each answer made anew). Ratios are what counts; the second column is what the client saw.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import multiprocessing.connection
import os
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from forwarder.dns.answer import Answerer
from forwarder.dns.names import wire_name
from forwarder.dns.published import published, zone_text
from forwarder.dns.rate import AnswerRate
from forwarder.dns.serve import open_listeners, serve
from forwarder.dns.zone import Zone, ZoneFacts
from forwarder.model import Endpoint, Mailbox, format_user_record, user_label, user_record_line

DOMAIN = "pobox.example"
WINDOW = 64  # queries under way
LOST = 0.5  # seconds until a window is given up for lost


def facts(users: int) -> ZoneFacts:
    target = Mailbox("somebody", "isp.example")
    lines = [user_record_line(user_label(f"user{n}"), format_user_record(target)) for n in range(users)]
    return ZoneFacts(DOMAIN, "delegate", ("ns1.pobox.example",), "hostmaster@pobox.example", 3600, 1, records=lines)


def queries(users: int, *, vary: bool) -> list[bytes]:
    chance = random.Random(1)
    made = []
    for _ in range(200_000 if vary else 1000):
        name = wire_name(f"{user_label(f'user{chance.randrange(users)}')}._im2000-user.{DOMAIN}")
        if vary:  # 30 letters to write in two ways
            name = bytes(o - 32 if 97 <= o <= 122 and chance.random() < 0.5 else o for o in name)
        made.append(b"\1\0\0\1\0\0\0\0\0\1" + name + b"\0\x10\0\1" + b"\0\0\x29\x04\xd0\0\0\0\0\0\0")
    return made


def echo(told: multiprocessing.connection.Connection) -> None:
    """The least any UDP server in Trio can do, with the same bursts."""

    async def main() -> None:
        udp = socket.socket(type=socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        told.send(udp.getsockname()[1])
        while True:
            await trio.lowlevel.wait_readable(udp)
            for _ in range(64):
                try:
                    packet, client = udp.recvfrom(4096)
                except BlockingIOError:
                    break
                udp.sendto(packet, client)

    trio.run(main)


def ours(told: multiprocessing.connection.Connection, users: int) -> None:
    async def main() -> None:
        answerer = Answerer([Zone(facts(users))])
        listeners = await open_listeners([Endpoint("127.0.0.1", 0)])
        async with trio.open_nursery() as nursery:
            endpoints = await nursery.start(partial(serve, answerer, listeners, rate=AnswerRate(10**9)))
            told.send(endpoints[0].port)

    trio.run(main)


@contextmanager
def process(target: object, *arguments: object) -> Iterator[tuple[int, int]]:
    """A server's port and process id."""
    hear, told = mp.Pipe(duplex=False)
    child = mp.get_context("spawn").Process(target=target, args=(told, *arguments), daemon=True)  # type: ignore[arg-type]
    child.start()
    assert child.pid
    try:
        yield hear.recv(), child.pid
    finally:
        child.terminate()
        child.join()


@contextmanager
def nsd(users: int) -> Iterator[tuple[int, int]]:
    program = shutil.which("nsd", path="/usr/local/sbin:/usr/sbin:/usr/bin")
    assert program
    with tempfile.TemporaryDirectory() as folder, socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        zone, settings = Path(folder, "zone"), Path(folder, "nsd.conf")
        zone.write_text(zone_text(published(facts(users))[1:]))
        settings.write_text(
            f"""server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{folder}"
  xfrdir: "{folder}"
  pidfile: "{folder}/pid"
  xfrdfile: "{folder}/xfrd"
  zonelistfile: "{folder}/list"
  logfile: "{folder}/log"
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: "_im2000-user.{DOMAIN}"
  zonefile: "{zone}"
"""
        )
        free.close()
        child = subprocess.Popen([program, "-d", "-c", str(settings)], stderr=subprocess.DEVNULL)
        try:
            time.sleep(2)
            yield port, child.pid
        finally:
            child.terminate()
            child.wait()


def processor_seconds(pid: int) -> float:
    """Of a process and all below it."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
        ticks[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(ticks.get(member, 0) for member in family) / os.sysconf("SC_CLK_TCK")


def measure(port: int, pid: int, asked: Sequence[bytes], seconds: float) -> tuple[float, float]:
    """Answers a second as the client saw them, and by the server's own processor time."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.connect(("127.0.0.1", port))
        udp.settimeout(LOST)
        begun, spent, answers, sent = time.monotonic(), processor_seconds(pid), 0, 0
        under_way = 0
        while time.monotonic() - begun < seconds:
            while under_way < WINDOW:
                udp.send(sent.to_bytes(4, "big")[2:] + asked[sent % len(asked)])
                sent += 1
                under_way += 1
            try:
                answer = udp.recv(4096)
                assert not answer[3] & 0xF
                answers += 1
                under_way -= 1
            except TimeoutError:
                under_way = 0
        took = time.monotonic() - begun
        return answers / took, answers / max(0.01, processor_seconds(pid) - spent)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--users", type=int, default=10_000)
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    ready, made = (queries(chosen.users, vary=vary) for vary in (False, True))
    with process(echo) as bare, process(ours, chosen.users) as server:
        runs = {"bare echo": (bare, ready), "ready": (server, ready), "made": (server, made)}
        if shutil.which("nsd", path="/usr/local/sbin:/usr/sbin:/usr/bin"):
            with nsd(chosen.users) as other:
                report({**runs, "nsd": (other, ready)}, chosen.seconds, chosen.rounds)
        else:
            report(runs, chosen.seconds, chosen.rounds)


def report(runs: dict[str, tuple[tuple[int, int], list[bytes]]], seconds: float, rounds: int) -> None:
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (at, asked) in runs.items():
            figures[name].append(measure(*at, asked, seconds))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()
    }
    base = medians["bare echo"]
    print(f"{'':10} {'answers/s':>10} {'a CPU s':>10} {'of echo':>8} {'of nsd':>8}   (ratios by the server's CPU)")
    for name, (seen, own) in medians.items():
        beside = f"{own / medians['nsd'][1]:8.2f}" if "nsd" in medians else f"{'-':>8}"
        print(f"{name:10} {seen:10,.0f} {own:10,.0f} {own / base[1]:8.2f} {beside}")


if __name__ == "__main__":
    main()
