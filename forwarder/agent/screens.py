"""What stands between the route and the strategy: lists, signature, callback, greylist, in this order (protocol 7.17).

A screen's verdict is an outcome or "continue". One that raises counts as what it declared: pass or defer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import trio

from forwarder.plugin import Ask, Case, Defer, Log, Pass, Screen, Verdict
from forwarder.wire.outcome import BUSY, UNVERIFIED

STAGES = ("lists", "signature", "callback", "greylist")
PATIENCE = 10.0
PASS = Pass()
AT_ONCE = 100
ASKING = 10_000
"""Notifications that ask or wait to; more are told 35."""


class Guarded(NamedTuple):
    """A screen made, with its name, its place and what its failure means."""

    name: str
    stage: str
    screen: Screen
    passes_on_error: bool


class Screens:
    """The chain. `judge` answers at once or says that the network must be asked; then `ask`."""

    def __init__(self, screens: Sequence[Guarded], log: Log) -> None:
        self._screens = sorted(screens, key=lambda guarded: STAGES.index(guarded.stage))
        self._log = log
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._asking = 0
        self.struck = 0

    def __bool__(self) -> bool:
        return bool(self._screens)

    def judge(self, case: Case) -> Verdict | Ask:
        """The first verdict that is not "pass"; Ask where a screen needs the network."""
        for guarded in self._screens:
            try:
                verdict = guarded.screen.judge(case)
            except Exception as error:
                verdict = self._failed(guarded, error)
            if type(verdict) is not Pass:
                return verdict
        return PASS

    async def ask(self, case: Case) -> Verdict:
        """The chain again, asking where it must; each has PATIENCE seconds. Code 35 where ASKING ask already."""
        if self._asking >= ASKING:
            self.struck += 1
            if self.struck & (self.struck - 1) == 0:
                self._log.info("limit", limit="screens asking", most=ASKING, struck=self.struck)
            return Defer(BUSY)
        self._asking += 1
        try:
            return await self._ask_all(case)
        finally:
            self._asking -= 1

    async def _ask_all(self, case: Case) -> Verdict:
        for guarded in self._screens:
            verdict = await self._ask(guarded, case)
            if type(verdict) is not Pass:
                return verdict
        return PASS

    async def _ask(self, guarded: Guarded, case: Case) -> Verdict:
        try:
            verdict = guarded.screen.judge(case)
            if not isinstance(verdict, Ask):
                return verdict
            async with self._limiter:
                with trio.fail_after(PATIENCE):
                    return await guarded.screen.ask(case)
        except Exception as error:
            return self._failed(guarded, error)

    def _failed(self, guarded: Guarded, error: Exception) -> Verdict:
        self._log.info("screen failed", screen=guarded.name, error=f"{type(error).__name__}: {error}")
        return Pass() if guarded.passes_on_error else Defer(UNVERIFIED)
