"""The node's answers as rows of the table of outcomes: for the map at RCPT, for LMTP's RCPT and for its last lines."""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.bridges import Answer, Look
from forwarder.model import Mailbox
from forwarder.plugin import Log, PeerError
from forwarder_smtp_bridge.outcomes import Kind, kind_of
from forwarder_smtp_bridge.returns import Forged, NotOurs, ReturnPaths

OFF = 32
MOVED_CLASS = 1
BELOW = "this domain is not hosted here"


def kind_and_text(answer: Answer) -> tuple[Kind, str]:
    """An address that is off, one that has moved, or one that others host has a row of its own."""
    if not answer.ours:
        return "elsewhere", ""
    if answer.code // 16 == MOVED_CLASS:
        return ("moved to", f"mailbox has moved, try <{answer.moved[0]}>") if answer.moved else ("moved", "")
    if answer.code == OFF:
        return "off", ""
    kind = kind_of(answer.code)
    return kind, answer.text if kind == "refused" else ""


class Looking:
    """Over the doors of the node. paths: our return paths, where there are any. anybody: the account that may send as
    anybody, "" where there is none."""

    def __init__(self, look: Look, paths: ReturnPaths | None, log: Log, anybody: str = "") -> None:
        self._look = look
        self._paths = paths
        self._log = log
        self._anybody = anybody

    async def access(self, mailbox: Mailbox) -> tuple[Kind, str]:
        """Who exists. Raises what the look-up raises: then we do not know."""
        if self._paths is None or not self._paths.ours(mailbox):
            answer = await self._look(mailbox)
            if not answer.ours and await self._is_below_ours(mailbox):
                return "refused", BELOW
            return kind_and_text(answer)
        found = self._paths.reverse(str(mailbox))
        if isinstance(found, NotOurs):  # a mailbox there, such as postmaster@, if the domain is hosted too
            answer = await self._look(mailbox)
            return kind_and_text(answer) if answer.ours else ("unknown", "")
        if isinstance(found, Forged):
            self._log.info("no return path of ours", address=str(mailbox), why=found.why)
            return "refused", "not a return path of ours"
        return "taken", ""

    async def known(self, mailbox: Mailbox) -> tuple[Kind, str]:
        """The same, where not to know is an answer too."""
        try:
            return await self.access(mailbox)
        except PeerError:
            return "broken", ""

    async def logins(self, mailbox: Mailbox) -> Sequence[str] | None:
        """Who may send as this mailbox."""
        senders = (await self._look(mailbox)).senders
        return senders if not self._anybody else tuple(dict.fromkeys([*senders, self._anybody]))

    async def _is_below_ours(self, mailbox: Mailbox) -> bool:
        """Postfix takes what is for a domain under its `relay_domains` too, and would hand it to us."""
        domain = mailbox.domain
        while domain := domain.partition(".")[2]:
            above = mailbox._replace(domain=domain)
            if (self._paths is not None and self._paths.ours(above)) or (await self._look(above)).ours:
                return True
        return False

    def is_return_path(self, mailbox: Mailbox) -> bool:
        paths = self._paths
        return paths is not None and paths.ours(mailbox) and not isinstance(paths.reverse(str(mailbox)), NotOurs)
