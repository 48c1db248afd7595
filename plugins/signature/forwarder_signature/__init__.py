"""The signature screen (protocol 5.0, 6d): a store's own signature is verified before anything asks that store.

An absent signature says nothing, a good one lets pass, a wrong one is code 51. Without a signature nothing is looked
up; with one the network is asked only for a key that is not in memory. What cannot be verified (no such key, no answer
from the DNS, an algorithm we do not know) counts as absent, but for `require`: there it fails closed, code 34.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import trio
from pydantic import AfterValidator, Field

from forwarder.model import parse_domain
from forwarder.plugin import (
    Ask,
    Case,
    Defer,
    Log,
    Options,
    Pass,
    PeerError,
    Ports,
    Refuse,
    Screen,
    ScreenSpec,
    Texts,
    Verdict,
    hookimpl,
)
from forwarder.signature import WrongSignature, judge, question

NAME = "signature"
ALL = "*"
PATIENCE = 6.0  # seconds for a key, the queue for a look-up included
PASS = Pass()
ASK = Ask()
WRONG = Refuse(51, "bad signature")
UNVERIFIED = Defer(34)


def _domain(text: str) -> str:
    return text if text == ALL else parse_domain(text)


class SignatureOptions(Options):
    """The table [plugins.signature] of the node file."""

    require: list[Annotated[str, AfterValidator(_domain)]] = Field(
        [], description='stores that must sign: domains with all below them, or "*"; else code 34'
    )


class Signatures:
    """Keys lie in the memory of `texts`, by their TTL."""

    def __init__(self, required: frozenset[str], texts: Texts, log: Log) -> None:
        self._required = required
        self._texts = texts
        self._log = log

    def judge(self, case: Case, /) -> Verdict | Ask:
        if case.notification.signature is None and not self._required:
            return PASS
        try:
            name = question(case.notification)
        except WrongSignature as error:
            return self._wrong(case, str(error))
        if name is None:
            return self._unverified(case)
        records = self._texts.known(name)
        return ASK if records is None else self._by(case, records)

    async def ask(self, case: Case, /) -> Verdict:
        try:
            name = question(case.notification)
            assert name is not None  # judge() said Ask
            with trio.fail_after(PATIENCE):
                records = await self._texts.find(name)
        except (PeerError, trio.TooSlowError) as error:
            self._log.info("key not found", store=case.notification.store, error=str(error))
            return self._unverified(case)
        return self._by(case, records)

    def _by(self, case: Case, records: Sequence[str]) -> Verdict:
        verdict = judge(case.notification, records)
        if verdict == "good":
            return PASS
        return self._wrong(case, "it does not verify") if verdict == "wrong" else self._unverified(case)

    def _wrong(self, case: Case, why: str) -> Refuse:
        self._log.info("signature wrong", store=case.notification.store, peer=case.peer.address, why=why)
        return WRONG

    def _unverified(self, case: Case) -> Verdict:
        return UNVERIFIED if self._required and self._requires(case.notification.store) else PASS

    def _requires(self, store: str) -> bool:
        labels = store.split(".")
        return ALL in self._required or any(".".join(labels[at:]) in self._required for at in range(len(labels)))


def make(options: SignatureOptions, ports: Ports) -> Screen:
    return Signatures(frozenset(options.require), ports.texts, ports.log)


@hookimpl
def forwarder_screens() -> Sequence[ScreenSpec[SignatureOptions]]:
    return (ScreenSpec(NAME, "signature", SignatureOptions, make, on_error="defer"),)
