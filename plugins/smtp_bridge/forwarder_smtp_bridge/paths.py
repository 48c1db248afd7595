"""Addresses as SMTP writes them (RFC 5321 4.1.2, 6531 3.3), read strictly and unquoted.

The local part stays as written, the domain as the model has it; `<>` is the null sender, "". A source route is read and
ignored (RFC 5321 appendix C). Nothing is decoded or guessed.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata

from forwarder.model import LOCALPART_OCTETS, Mailbox, parse_domain
from forwarder_smtp_bridge.outcomes import Refused, Reply

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff]"
_QUOTED = r'"(?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*"'
_LOCAL = rf"{_ATEXT}+(?:\.{_ATEXT}+)*|{_QUOTED}"
_DOMAIN = r"[A-Za-z0-9_.\-\x80-\U0010ffff]+"
_ADDRESS = rf"(?P<local>{_LOCAL})@(?P<domain>{_DOMAIN}|\[[A-Za-z0-9:.]+\])"
_MAILBOX = re.compile(_ADDRESS)
_PATH = re.compile(rf"<(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?{_ADDRESS}>")

_SYNTAX = Reply(553, "5.1.3", "bad address syntax")
NO_UTF8 = Reply(553, "5.6.7", "non-ASCII address without SMTPUTF8")
_LITERAL = Reply(550, "5.1.2", "no mail for address literals here")


def sender_path(text: str) -> tuple[str, str]:
    """What stands at the beginning of `text` in angle brackets, and what comes behind.

    The sender as it goes into brackets again, quoted only where it must be; "" for `<>`. Raises Refused.
    """
    if text.startswith("<>"):
        return "", text[2:]
    match = _PATH.match(text)
    if match is None:
        raise Refused(_SYNTAX)
    return str(_mailbox(match, literal=True)), text[match.end() :]


def recipient_path(text: str) -> tuple[Mailbox, str]:
    """The same for a recipient, who is no address literal and never null. Raises Refused."""
    match = _PATH.match(text)
    if match is None:
        raise Refused(_SYNTAX)
    return _mailbox(match, literal=False), text[match.end() :]


def bare_mailbox(text: str) -> Mailbox:
    """An address without brackets, as Postfix looks it up in its tables. Raises Refused."""
    match = _MAILBOX.fullmatch(text)
    if match is None:
        raise Refused(_SYNTAX)
    return _mailbox(match, literal=False)


def _mailbox(match: re.Match[str], *, literal: bool) -> Mailbox:
    local = match["local"]
    if local.startswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    if not 0 < len(local.encode()) <= LOCALPART_OCTETS or any(unicodedata.category(c) == "Cc" for c in local):
        raise Refused(_SYNTAX)
    if match["domain"].startswith("["):
        return Mailbox(local, _literal(match["domain"], allowed=literal))
    try:
        return Mailbox(local, parse_domain(match["domain"]))
    except ValueError:
        raise Refused(_SYNTAX) from None


def _literal(domain: str, *, allowed: bool) -> str:
    """`[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 4.1.3)."""
    text = domain[1:-1]
    try:
        if text[:5].lower() == "ipv6:":
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        raise Refused(_SYNTAX) from None
    if not allowed:
        raise Refused(_LITERAL)
    return domain
