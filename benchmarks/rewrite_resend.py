"""rewrite_resend by the real daemon, beside a bare Trio proxy that decodes and splices the same frames (goals, Speed).

    python benchmarks/rewrite_resend.py [--seconds 2] [--rounds 5] [--shapes extended,2004,batches,slow] [--variants]

The daemon is `forwarder serve` on a fresh folder: 50 addresses that forward; trace, repeats memory, counters and the
bundled screens are on. Load and target are programs of their own (load.c and sink.c by `cc`; load.py and sink.py where
there is none). Daemon and proxies are run in turn; what is printed are medians of the rounds and their ratios. CPU is
the user and system time of the process under test for each notification.
On a shared machine only ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from forwarder.config.fresh import write_fresh
from forwarder.model import Mailbox, Notification, ServiceLocation
from forwarder.wire.frames import frame
from forwarder.wire.notification import encode_notification
from forwarder.wire.rnasp import Capabilities, encode_batch, encode_capabilities

HERE = Path(__file__).parent
PYTHON = sys.executable
DAEMON = [PYTHON, "-c", "import sys; from forwarder.cli import main; sys.exit(main())"]
DOMAIN = "pobox.example"
MAILBOXES = 50
WARM = 0.7  # seconds before counting: sessions open, entries compiled
PATIENCE = 30.0
RATIOS = "ratio of rates (least .. most), of CPU"
LIFETIME = "900"  # seconds after which every helper process ends by itself
OFFER = Capabilities(1, frozenset({"results", "redirect", "moved", "trace", "digest", "origin", "durable"}))
AGENTS = {
    "u": ("isp.example", "extended", "-"),
    "o": ("old.example", "2004", "-"),
    "s": ("late.example", "extended", "s0"),
}
"""By the first letter of a local part: the domain it forwards to, and its agent's kind and slow mailbox."""


class Shape(NamedTuple):
    """What is sent: to the addresses of one letter, over so many connections, so many notifications a PDU."""

    title: str
    letter: str
    connections: int
    batch: int


SHAPES = {
    "extended": Shape("singles, 50 connections, extended agent", "u", 50, 1),
    "2004": Shape("singles, 50 connections, agent of 2004", "o", 50, 1),
    "batches": Shape("batches of 100, 4 connections, extended agent", "u", 4, 100),
    "slow": Shape("singles, 50 connections, one mailbox in 50 answers after 1 s", "s", 50, 1),
}


class Run(NamedTuple):
    """rate: notifications a second of all connections but the first; cpu, p50, p99 in microseconds."""

    rate: float
    others: float
    cpu: float
    p50: float
    p99: float


# -- frames


def frames(shape: Shape) -> bytes:
    """One for each connection, in the form that load.c reads. Singles: connection n writes to mailbox n."""
    return b"".join(_frame(shape, number) for number in range(shape.connections))


def _frame(shape: Shape, connection: int) -> bytes:
    keys = [f"key {connection:4} {item:6}.".encode() for item in range(shape.batch)]
    notifications = [
        Notification(
            ServiceLocation("store.example"),
            None,
            Mailbox(f"{shape.letter}{(connection + item) % MAILBOXES}", DOMAIN),
            key,
            "toby",
            1234,
        )
        for item, key in enumerate(keys)
    ]
    octets = frame(encode_batch(map(encode_notification, notifications), encode_capabilities(OFFER)))
    places = [octets.index(key) for key in keys]
    return struct.pack(f"<II{len(keys)}I", len(octets), len(keys), *places) + octets


# -- processes


class Tools(NamedTuple):
    """How load and sink are called."""

    load: list[str]
    sink: list[str]
    language: str


def tools(folder: Path) -> Tools:
    compiler = shutil.which("cc")
    if compiler is None:
        return Tools([PYTHON, str(HERE / "load.py")], [PYTHON, str(HERE / "sink.py")], "Python")
    for name in ("load", "sink"):
        source, program = str(HERE / f"{name}.c"), str(folder / name)
        subprocess.run([compiler, "-O2", "-D_GNU_SOURCE", "-o", program, source], check=True, timeout=60)
    return Tools([str(folder / "load")], [str(folder / "sink")], "C")


class Running(NamedTuple):
    """A server under test."""

    port: int
    pid: int


@contextmanager
def serving(command: Sequence[str]) -> Iterator[Running]:
    """A process that prints its port first."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        yield Running(int(child.stdout.readline()), child.pid)
    finally:
        child.kill()
        child.wait()


@contextmanager
def daemon(folder: Path, agents: dict[str, int]) -> Iterator[Running]:
    """`forwarder serve` in a fresh folder; agents: the port of each domain's."""
    static = [f'resolve.static."{domain}"={{ rnasp = "127.0.0.1:{port}" }}' for domain, port in agents.items()]
    listen = [f'listen.{name}=["127.0.0.1:0"]' for name in ("rnasp", "msrap", "rnaqp", "msoap")]
    sets = [*listen, "listen.dns=[]", 'network.allow=["127.0.0.0/8"]', *static]
    config = folder / "config"
    write_fresh(config, f"mx1.{DOMAIN}", DOMAIN, sets)
    for letter, (domain, _, _) in AGENTS.items():
        for number in range(MAILBOXES):
            name = f"{letter}{number}"
            (config / "addresses" / DOMAIN / f"{name}.toml").write_text(f'to = ["{name}@{domain}"]\n')
    log = folder / "log"
    with log.open("w") as errors:
        child = subprocess.Popen([*DAEMON, "serve", "--config", str(config)], stderr=errors)
    try:
        yield Running(_listening(log, child), child.pid)
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _listening(log: Path, child: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and child.poll() is None:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        if any(line["event"] == "ready" for line in lines):
            [address] = [line["address"] for line in lines if line.get("service") == "rnasp"]
            return int(address.rpartition(":")[2])
        time.sleep(0.05)
    raise SystemExit(f"the daemon did not start:\n{log.read_text()}")


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- measuring


def measure(load: Sequence[str], server: Running, frames_file: Path, seconds: float) -> Run:
    """Raises SystemExit for an answer that is not "taken": a fast wrong answer is no figure."""
    command = [*load, str(server.port), str(frames_file), str(WARM), str(seconds)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        child.stdout.readline()
        before = processor_seconds(server.pid)
        child.stdout.readline()
        spent = processor_seconds(server.pid) - before
        report = json.loads(child.stdout.readline() or "{}")
    finally:
        child.kill()
        child.wait()
    if not report or report["bad"] or report["unanswered"]:
        raise SystemExit(f"bad answers: {report}")
    answers, took = report["answers"], report["seconds"]
    total = max(1, sum(answers))
    return Run(total / took, sum(answers[1:]) / took, spent / total * 1e6, report["p50_us"], report["p99_us"])


def in_turn(
    load: Sequence[str], servers: dict[str, tuple[Running, Path]], rounds: int, seconds: float
) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, (server, frames_file) in servers.items():
            runs[name].append(measure(load, server, frames_file, seconds))
    return runs


def median(runs: Sequence[Run]) -> Run:
    return Run(*(statistics.median(column) for column in zip(*runs, strict=True)))


def report(title: str, runs: dict[str, list[Run]], *, base: str) -> None:
    """Ratios are the daemon over each of the others: rates, and how many times the CPU it takes."""
    print(f"\n{title}\n{'':18}{'rate/s':>10} {'CPU us':>8} {'p50 us':>8} {'p99 us':>9}   {RATIOS}")
    ours = median(runs[base])
    for name, each in runs.items():
        it = median(each)
        line = f"{name:18}{it.rate:10,.0f} {it.cpu:8.2f} {it.p50:8,.0f} {it.p99:9,.0f}"
        if name != base:
            pairs = [own.rate / other.rate for own, other in zip(runs[base], each, strict=True)]
            line += f"   {ours.rate / it.rate:5.2f} ({min(pairs):.2f} .. {max(pairs):.2f}), {ours.cpu / it.cpu:5.2f}"
        print(line, flush=True)


def report_slow(runs: dict[str, list[Run]], title: str) -> None:
    print(f"\n{title}")
    ratios = [slow.others / fast.others for slow, fast in zip(runs["one is slow"], runs["all are fast"], strict=True)]
    for name, each in runs.items():
        it = median(each)
        print(f"{name:18}{it.others:10,.0f}/s to the other 49, CPU {it.cpu:.2f} us, p99 {it.p99:,.0f} us")
    print(
        f"the others keep   {statistics.median(ratios):10.2f} of their rate ({min(ratios):.2f} .. {max(ratios):.2f})",
        flush=True,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--shapes", default=",".join(SHAPES))
    options.add_argument(
        "--variants", action="store_true", help="also proxies that move octets, and that splice headers"
    )
    chosen = options.parse_args()
    changes = ("decode", "splice", "octets") if chosen.variants else ("decode",)
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        made = tools(folder)
        sinks = {
            letter: held.enter_context(serving([*made.sink, kind, slow, LIFETIME]))
            for letter, (_, kind, slow) in AGENTS.items()
        }
        ports = {AGENTS[letter][0]: sink.port for letter, sink in sinks.items()}
        forwarder = held.enter_context(daemon(folder, ports))
        print(f"load and sink in {made.language}, {chosen.rounds} rounds of {chosen.seconds} s, {os.cpu_count()} cores")
        files = {}
        for name, shape in SHAPES.items():
            files[name] = folder / f"frames-{name}"
            files[name].write_bytes(frames(shape))
        for name in chosen.shapes.split(","):
            shape = SHAPES[name]
            if name == "slow":
                servers = {"all are fast": (forwarder, files["extended"]), "one is slow": (forwarder, files["slow"])}
                report_slow(in_turn(made.load, servers, chosen.rounds, chosen.seconds), shape.title)
                continue
            with ExitStack() as beside:
                servers = {"forwarder": (forwarder, files[name])}
                for change in changes:
                    command = [PYTHON, str(HERE / "proxy.py"), change, str(sinks[shape.letter].port), LIFETIME]
                    servers[f"proxy, {change}"] = (beside.enter_context(serving(command)), files[name])
                runs = in_turn(made.load, servers, chosen.rounds, chosen.seconds)
            report(shape.title, runs, base="forwarder")


if __name__ == "__main__":
    main()
