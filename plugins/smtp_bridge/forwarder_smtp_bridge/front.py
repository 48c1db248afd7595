"""The two fields that a native message gets in front when it goes out by SMTP.

A gateway must add Received (RFC 5321 3.7.2). Delivered-To is what ends a loop through others: Postfix refuses mail for
an address that stands there already (bridges.md 9).
"""

from __future__ import annotations

from datetime import datetime
from email.utils import format_datetime

from forwarder.model import Mailbox

WORD = 200


def native_front(address: Mailbox | None, *, store: str, account: str, node: str, handle: str, now: datetime) -> bytes:
    """Ends in CRLF. address: ours, that passed it on; None: it comes from our store itself, and named where it goes
    to, the field would be taken for a loop there. store, account: where it came from, as its notification says.

    handle: of its key. Not ASCII only where the address is not.
    """
    delivered = "" if address is None else f"Delivered-To: {_one_line(str(address))}\r\n"
    return (
        f"{delivered}"
        f"Received: from {_word(store)} (im2000 {_word(account)})\r\n"
        f" by {_word(node)} with IM2000 id {_word(handle)};\r\n"
        f" {format_datetime(now)}\r\n"
    ).encode()


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _word(text: str) -> str:
    """What can neither end its line nor its comment."""
    return "".join(c if "!" <= c <= "~" and c not in '()\\";' else "?" for c in text[:WORD]) or "?"
