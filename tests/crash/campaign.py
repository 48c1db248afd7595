"""Kills, restarts, audits: `python tests/crash/harness.py --kills 2000 --seed N`.

A life: the daemon starts, peers set to work, it dies at a point, at an instant of its transaction, or at any moment.
An audit: a life without a death, in which all that was ever acknowledged must arrive without anybody's help.
An epoch: after some audits all is closed, the clock is turned by weeks, and the memory must be swept and empty.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import apsw
import trio
import trio.testing

from .clients import Clients
from .clock import Control
from .daemon import INSTANTS
from .damage import plant
from .house import ROOT, House
from .letters import QUIET, Letters
from .mail import Smarthost, serve_smarthost
from .peers import Agents, Source, serve_agents, serve_names, serve_source
from .truth import Truth

LIFE_SECONDS = 0.6
AUDIT_SECONDS = 25.0
A_DAY = 86400.0
A_REPEAT = 1.1 * A_DAY + 3600
"""Our own store's next repeat is surely due: it hears at the latest then what failed behind an agent before a kill."""
KILLS_TO_AUDIT = 25
FSCK_SECONDS = 0.6
SETTLED_SECONDS = 0.01
NEEDS = {"removed": 4000.0, "ledger.reopen": A_DAY + 3600, "reported": 2 * QUIET}
"""Seconds that the clock must turn for a point: a body was freed a while ago, a store's next repeat is due, the MTA
has surely had its answer."""
SMALL_WITHOUT = """SELECT m.number FROM message m LEFT JOIN small_body b ON b.message = m.number
    WHERE m.file = '' AND m.removed = 0 AND (b.octets IS NULL OR length(b.octets) <> m.size)"""
RARE, RARE_IN_HASTE = 0.02, 0.3


def marked_points() -> dict[str, str]:
    """Every `point=` that a daemon comes to, and the file it stands in."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "forwarder").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "point" and isinstance(node.value, ast.Constant):
                point = str(node.value.value)
                assert point not in found, f"point {point} is marked twice"
                found[point] = str(path.relative_to(ROOT))
    return found


class Peers(NamedTuple):
    """The daemon's house and all around it."""

    house: House
    truth: Truth
    letters: Letters
    smarthost: Smarthost
    agents: tuple[Agents, ...]
    clients: Clients

    def calm(self, calm: bool) -> None:
        """In an audit nobody makes trouble, or puts off what he could have now."""
        self.smarthost.calm = self.clients.calm = calm
        for agents in self.agents:
            agents.calm = calm


class Campaign:
    def __init__(self, peers: Peers, chance: random.Random, *, eager: bool) -> None:
        self.eager = eager
        self._peers = peers
        self.house, self.truth, self.letters, self.clients = peers.house, peers.truth, peers.letters, peers.clients
        self.chance = chance
        self.kills = 0
        self.lost: list[str] = []
        self._tried = Counter(dict.fromkeys(marked_points(), 0))

    @property
    def reached(self) -> set[str]:
        return {point for point, _ in self.house.deaths}

    @property
    def unreached(self) -> list[str]:
        return sorted(set(self._tried) - self.reached)

    async def kill_one(self) -> None:
        """One life with a violent end."""
        point, instant = self._choose()
        await self._new_life()
        self.kills += 1
        if point == "fsck" and self.house.life:  # before the first life there is nothing to mend
            await self._mend(instant)
            return
        if point in NEEDS or self.chance.random() < 0.3:
            self.house.control.turn(NEEDS.get(point) or self.chance.choice((40.0, 400.0, 4000.0)))
        ready = await self.house.start(
            point=point, instant=instant, nth=1 if self.eager else self.chance.choice((1, 1, 1, 2, 4))
        )
        if not ready:
            self._fell()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.clients.run)
            with trio.move_on_after(LIFE_SECONDS if point else self.chance.random() * LIFE_SECONDS) as scope:
                await self.house.ended()
            if scope.cancelled_caught:
                self.house.kill()
                await self.house.ended()
            nursery.cancel_scope.cancel()
        self._fell()

    async def _new_life(self) -> None:
        """What the dead one has sent lies in the peers' sockets: they take it first, as of its life."""
        await trio.testing.wait_all_tasks_blocked(SETTLED_SECONDS)
        self.truth.life = self.house.life + 1

    async def _mend(self, instant: str) -> None:
        """Damage that nobody was acknowledged, a repair that is killed in its midst, then one that is not."""
        plant(self.house.folder / "state", self.house.control.now, self.chance)
        at_any_moment = self.chance.random() < 0.3
        with trio.move_on_after(self.chance.random() * FSCK_SECONDS if at_any_moment else AUDIT_SECONDS) as scope:
            code = await self.house.mend(
                point="fsck", instant=instant, nth=1 if self.eager else self.chance.randrange(1, 12)
            )
        if scope.cancelled_caught:
            self.house.kill()
            code = await self.house.ended()
        if code not in (0, -9):
            self.truth.fault("fsck --repair ended with", code)
        if (code := await self.house.mend()) != 0:
            self.truth.fault("after a kill fsck --repair ended with", code)
        await self.house.start(verb=("fsck", "--deep"))
        if self.house.code != 0:
            self.truth.fault("after its repairs fsck finds more")
        self.truth.checked["repairs"] += 1

    def _choose(self) -> tuple[str, str]:
        """A point where nothing has died yet, or one that was tried least, or none: then any moment will do."""
        new = sorted(set(self._tried) - self.reached)
        if not self.eager and (not new or self.chance.random() < 0.5):
            if self.chance.random() < 0.3:
                return "", "after"
            new = sorted(self._tried)
        if self.house.died_at == ("copied", "after") and self.chance.random() < 0.5:
            # it is marked only where an order is met that was done and not settled
            return "pull seen", self.chance.choice(INSTANTS)
        least = min(self._tried[point] for point in new)
        point = self.chance.choice([point for point in new if self._tried[point] == least])
        self._tried[point] += 1
        return ("copied", "after") if point == "pull seen" else (point, self.chance.choice(INSTANTS))

    def _fell(self) -> None:
        if self.house.code != -9:
            self.truth.fault("the daemon ended by itself with", self.house.code)

    async def audit(self) -> None:
        """What was acknowledged must arrive now; then the state is looked at from outside."""
        self.house.control.turn(A_REPEAT)
        for sent in self.truth.sent.values():
            if sent.doubtful and sent.acked and not sent.verified:
                sent.due, sent.doubtful = 0.0, False
        await self._new_life()
        self._peers.calm(True)
        if not await self.house.start():
            raise RuntimeError(f"the daemon does not start: {self.house.log()[-3:]}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.clients.run)
            deadline = trio.current_time() + AUDIT_SECONDS
            while (left := self._left()) and trio.current_time() < deadline:  # noqa: ASYNC110  # others work
                await trio.sleep(0.05)
            self.lost += [item for item in left if item not in self.lost]
            code = await self.house.stop()
            nursery.cancel_scope.cancel()
        if code != 0:
            self.truth.fault("the daemon ended with", code)
        self.truth.check_works()
        self._check_bodies()
        self.truth.release()
        self._peers.calm(False)

    def _left(self) -> list[str]:
        """What was acknowledged and has not arrived; and what has, and is not let go."""
        found = self.truth.open_items() + self.letters.open_items()
        return found or [f"letter {number} is kept though nobody needs it" for number in self._kept()]

    def _kept(self) -> list[int]:
        if not (done := self.letters.done):
            return []
        connection = apsw.Connection(str(self.house.folder / "state" / "forwarder.db"), apsw.SQLITE_OPEN_READONLY)
        try:
            kept = {digest for (digest,) in connection.execute("SELECT sha256 FROM message WHERE freed IS NULL")}
        finally:
            connection.close()
        return [number for digest, number in done.items() if digest in kept]

    def _check_bodies(self) -> None:
        """The sweep has run at the start: no orphan, and no row without its file."""
        connection = apsw.Connection(str(self.house.folder / "state" / "forwarder.db"))
        try:
            if (health := connection.execute("PRAGMA integrity_check").get) != "ok":
                self.truth.fault("the database is broken:", health)
            found = connection.execute("SELECT file, freed IS NULL FROM message WHERE file <> ''").fetchall()
            rows = {str(name): bool(kept) for name, kept in found}
            for (number,) in connection.execute(SMALL_WITHOUT):
                self.truth.fault("a message without its small body", number)
        finally:
            connection.close()
        bodies = self.house.folder / "state" / "bodies"
        files = {path.name for path in bodies.rglob("*") if path.is_file() and path.parent.name != "spool"}
        for name in files - rows.keys():
            self.truth.fault("an orphan body", name)
        for name in {name for name, kept in rows.items() if kept} - files:
            self.truth.fault("a message without its body", name)

    async def epoch(self) -> None:
        """All is over: every key has ended, nothing is remembered, and the daemon goes on."""
        await self.audit()
        self.truth.forget()
        self.letters.forget()
        self.house.control.turn(80 * A_DAY)

    def report(self, seconds: float) -> str:
        lines = [
            f"kills       {self.kills}  at {len(self.reached)} marked points of {len(self._tried)}, in {seconds:.0f} s",
            f"lost        {len(self.lost)}",
            f"wrong       {len(self.truth.wrong)}",
            f"repeats     {dict(self.truth.extra)}, all with the same key, all documented",
            f"checked     {dict(self.truth.checked)}",
            f"deaths      {dict(Counter(instant for _, instant in self.house.deaths))}",
        ]
        by_point = Counter(point for point, _ in self.house.deaths)
        lines += [f"least       {', '.join(f'{point} {times}' for point, times in by_point.most_common()[:-6:-1])}"]
        lines += [f"unreached   {', '.join(self.unreached)}"] if self.unreached else []
        return "\n".join(
            lines + [f"LOST {text}" for text in self.lost] + [f"WRONG {text}" for text in self.truth.wrong]
        )


async def campaign(folder: Path, kills: int, seed: int, *, eager: bool = False, progress: bool = True) -> Campaign:
    """eager: until each marked point was a place of death, with `kills` at most; else that many."""
    chance = random.Random(seed)
    async with trio.open_nursery() as nursery:
        peers = await _peers(folder, nursery, chance, RARE_IN_HASTE if eager else RARE)
        made = Campaign(peers, chance, eager=eager)
        await made.house.open()
        try:
            await _fight(made, kills, progress=progress)
        finally:
            with trio.CancelScope(shield=True):
                await made.house.close()
        nursery.cancel_scope.cancel()
    return made


async def _peers(folder: Path, nursery: trio.Nursery, chance: random.Random, rare: float) -> Peers:
    truth = Truth(Control(folder / "control"), folder / "diary")
    agents = Agents(truth, chance, extended=True), Agents(truth, chance, extended=False)
    ext, old = [await serve_agents(each, nursery) for each in agents]
    isp = await serve_source(Source(truth, chance), nursery)
    places = {"ext.test": {"rnasp": ext}, "old.test": {"rnasp": old}, "isp.test": {"msrap": isp}}
    letters = Letters(truth)
    smarthost = Smarthost(letters, chance)
    house = House(folder, places, await serve_names(nursery), await serve_smarthost(smarthost, nursery))
    return Peers(house, truth, letters, smarthost, agents, Clients(house, truth, letters, chance, rare))


async def _fight(made: Campaign, kills: int, *, progress: bool) -> None:
    started, said = time.monotonic(), 0
    while made.kills < kills and not (made.eager and made.unreached == []):
        await made.kill_one()
        if made.kills % KILLS_TO_AUDIT == 0:
            await (made.epoch() if made.kills % (8 * KILLS_TO_AUDIT) == 0 else made.audit())
            if progress:
                print(f"{made.kills} kills, {len(made.lost)} lost, {len(made.truth.wrong)} wrong", flush=True)
                print("".join(f"WRONG {text}\n" for text in made.truth.wrong[said:]), end="", flush=True)
                said = len(made.truth.wrong)
        if progress and (made.lost or len(made.truth.wrong) > 20):
            break
    await made.epoch()
    if progress:
        print(made.report(time.monotonic() - started), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="kills the real daemon again and again; nothing acknowledged is lost")
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--folder", type=Path, help="kept afterwards; must be new")
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if given.folder:
            given.folder.mkdir()
        where = given.folder or Path(folder)
        made = trio.run(lambda: campaign(where, given.kills, given.seed))
    return 1 if made.lost or made.truth.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
