"""What the smarthost says in EHLO, held against what we would bring it: for `check --network`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import trio

from forwarder.plugin import Objection
from forwarder_smtp_bridge.options import BridgeOptions
from forwarder_smtp_bridge.smarthost import Smarthost
from forwarder_smtp_bridge.smtp_session import Lost

PATIENCE = 15.0
_KEY = "smtp_out.smarthost"


class _Silent:
    def info(self, event: str, /, **fields: Any) -> None:
        """What there is to say is said to whoever asks."""


async def ask(options: BridgeOptions, node: str, /) -> Sequence[Objection]:
    """Raises nothing of what a smarthost may do."""
    if options.smtp_out is None:
        return ()
    smarthost = Smarthost(*options.smtp_out.place, name=node, log=_Silent())
    why = ""
    with trio.move_on_after(PATIENCE) as waited:
        try:
            return list(_lacking(await smarthost.offers(), options))
        except Lost as error:
            why = f"{error} {error.reply.text}".strip()
    if waited.cancel_called:
        why = f"no answer within {PATIENCE:.0f} s"
    return [Objection(_KEY, f"{options.smtp_out.smarthost}: {why}: mail for targets without an agent waits")]


def _lacking(offers: Mapping[str, str], options: BridgeOptions) -> Iterator[Objection]:
    most = offers.get("SIZE", "")
    ours = options.smtp_in.max_size
    if most.isascii() and most.isdigit() and 0 < int(most) < ours:
        text = f"{ours} octets come in, and the smarthost takes {int(most)} (message_size_limit): more would bounce"
        yield Objection("smtp_in.max_size", text)
    if "8BITMIME" not in offers:
        yield Objection(_KEY, "it offers no 8BITMIME: mail with octets above 127 waits until it does")
    if "SMTPUTF8" not in offers:
        yield Objection(_KEY, "it offers no SMTPUTF8: addresses beyond ASCII are refused")
