"""The table [bridge] of the node file, as the bridges read it (docs/bridges.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from forwarder.model import parse_domain
from forwarder.plugin import Duration, Objection, Options, Size
from forwarder_smtp_bridge.returns import NEEDS, SecretsError, lacks_srs, load_secrets

MIN_HASH = 4
BY_SENDER = "sender"
GATEWAY = "smtpgateway"
SMALLEST, LARGEST = 64 << 10, 100 << 30
"""Octets. RFC 5321 4.5.3.1.7 has everybody take the first; a typing error asks for more than the second."""
LONGEST_WAIT = timedelta(seconds=60)
SHORTEST_LIFE = timedelta(seconds=60)

_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}\Z")


def _endpoint(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not _is_host(host) or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise ValueError(f'expected "HOST:PORT" such as "127.0.0.1:10025", found {value!r}')
    return value


def _is_host(text: str) -> bool:
    """A name, an IPv4 address, an IPv6 address in brackets."""
    try:
        if text.startswith("["):
            IPv6Address(text.removeprefix("[").removesuffix("]"))
            return text.endswith("]")
        parse_domain(text)
    except ValueError:
        return False
    return True


def _account(value: str) -> str:
    if not _ACCOUNT.match(value):
        raise ValueError(f"{value!r} is no account name: expected 1 to 64 of letters, digits and ._@+-")
    return value


def _owners(value: object) -> object:
    """One complaint for a union, not one for each arm of it."""
    if not isinstance(value, str | dict):
        raise ValueError("expected the name of an account, or a table of such names by domain")
    for domain, name in value.items() if isinstance(value, dict) else [("", value)]:
        if not isinstance(name, str):
            raise ValueError(f"{domain}: expected the name of an account, found {name!r}")
        _account(name)
        if domain:
            parse_domain(domain)
    return value


def _lasting(value: timedelta) -> timedelta:
    if value < SHORTEST_LIFE:
        raise ValueError(f"expected at least {SHORTEST_LIFE.seconds} s: mail that nobody reads ends so soon")
    return value


def _patient(value: timedelta) -> timedelta:
    if value > LONGEST_WAIT:
        raise ValueError(f"expected at most {LONGEST_WAIT.seconds} s: Postfix waits for its answer meanwhile")
    return value


def _message(value: int) -> int:
    if not SMALLEST <= value <= LARGEST:
        raise ValueError("expected 64KiB to 100GiB: all mail that is larger is refused")
    return value


class SmtpIn(Options):
    """[bridge.smtp_in]: the world's mail, by LMTP from the MTA in front of us."""

    account: Annotated[str | dict[Annotated[str, AfterValidator(parse_domain)], str], BeforeValidator(_owners)] = Field(
        GATEWAY, description="the account that owns incoming mail; a table gives each domain its own"
    )
    max_size: Annotated[Size, AfterValidator(_message)] = Field(
        30 << 20, description="octets of a message: Postfix's message_size_limit"
    )
    sessions: int = Field(10, ge=1, le=1000, description="LMTP sessions at once: maxproc of the transport")
    answer_wait: Annotated[Duration, AfterValidator(_patient)] = Field(
        timedelta(seconds=2), description="so long a refusal by the target can still become a 5xx"
    )
    lifetime: Annotated[Duration, AfterValidator(_lasting)] = Field(
        timedelta(days=365), description="of unread mail; then a report goes to the sender"
    )
    received: int = Field(40, ge=1, description="more Received lines than this: a loop")

    def owner(self, domain: str) -> str:
        """The account that owns what is for this domain."""
        return self.account if isinstance(self.account, str) else self.account.get(domain, GATEWAY)

    @property
    def any_owner(self) -> str:
        """The account for what is for no domain."""
        return self.account if isinstance(self.account, str) else next(iter(self.account.values()), GATEWAY)


class SmtpOut(Options):
    """[bridge.smtp_out]: targets without an agent, by SMTP through a smarthost."""

    smarthost: Annotated[str, AfterValidator(_endpoint)] = Field(description="host and port of the MTA behind us")
    retry: Duration = Field(timedelta(days=5), description="how long a target is tried")
    settle: Duration = Field(
        timedelta(hours=1), description="how long a report is waited for before a native message is un-pinned"
    )

    @property
    def place(self) -> tuple[str, int]:
        host, _, port = self.smarthost.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)


class Returns(Options):
    """[bridge.returns]: where reports on what we sent come back to."""

    domain: Annotated[str, AfterValidator(parse_domain)] = Field(description="a domain of its own, MX to the same MTA")
    secret_file: str = Field("srs.secret", description="0600, one secret a line, the newest first")
    days: int = Field(21, ge=1, le=365, description="how long a return path is good")
    hash: int = Field(8, ge=MIN_HASH, le=27, description="characters; 4 only to share addresses with postsrsd")


class SubmissionOptions(Options):
    """[bridge.submission]: our users' own mail, after the MTA has checked their login."""

    account: Annotated[str, AfterValidator(_account)] = Field(
        BY_SENDER, description='"sender": who owns or reads the envelope sender; or one fixed account'
    )


class BridgeOptions(Options):
    """[bridge]. pop3 is the POP3 door's."""

    group: str = Field("", description="owner of the Unix sockets, mode 0660")
    smtp_in: SmtpIn = Field(default_factory=lambda: SmtpIn.model_validate({}))
    smtp_out: SmtpOut | None = None
    returns: Returns | None = None
    submission: SubmissionOptions = Field(default_factory=lambda: SubmissionOptions.model_validate({}))
    pop3: dict[str, Any] = Field({}, description="the POP3 door's table")

    @property
    def fixed_account(self) -> str:
        """The one account that owns all submissions; "": each has its sender's."""
        return "" if self.submission.account == BY_SENDER else self.submission.account


def incoming_domains(options: BridgeOptions) -> Mapping[tuple[str, ...], str]:
    """Domains that an account is named for, by key."""
    account = options.smtp_in.account
    return {} if isinstance(account, str) else {("smtp_in", "account", domain): domain for domain in account}


def incoming_accounts(options: BridgeOptions, hosted: Collection[str]) -> Mapping[tuple[str, ...], str]:
    """Who owns the world's mail, by key."""
    account = options.smtp_in.account
    key: tuple[str, ...] = ("smtp_in", "account")
    if isinstance(account, str):
        return {key: account}
    named = {(*key, domain): name for domain, name in account.items()}
    return {key: GATEWAY, **named} if set(hosted) - account.keys() else named


def submitting_accounts(options: BridgeOptions, hosted: Collection[str]) -> Mapping[tuple[str, ...], str]:
    """Who owns our users' mail, if it is one for all."""
    return {("submission", "account"): options.fixed_account} if options.fixed_account else {}


def doubts(options: BridgeOptions) -> Sequence[Objection]:
    """Mail that is taken and may end without a word to its sender."""
    if options.smtp_out is not None:
        return ()
    text = "is missing: of mail that fails after it was taken no sender hears, there is no way for a report"
    return [Objection("smtp_out", text)]


def objections(options: BridgeOptions, path: Callable[[str], Path]) -> Sequence[Objection]:
    """What cannot work: mail that nobody could report on, secrets that cannot be read."""
    found: list[Objection] = []
    if options.smtp_out is not None and options.returns is None:
        text = "needs [bridge.returns]: without a return path no report would find its way back"
        found.append(Objection("smtp_out", text))
    if options.returns is not None:
        if lacks_srs():
            found.append(Objection("returns", NEEDS))
        try:
            load_secrets(path(options.returns.secret_file))
        except SecretsError as error:
            found.append(Objection("returns.secret_file", str(error)))
        except OSError as error:
            name, why = options.returns.secret_file, error.strerror or str(error)
            hint = f'; make one: (umask 077; openssl rand -base64 24 > "{path(name)}")'
            found.append(Objection("returns.secret_file", f'"{name}" cannot be read: {why}{hint}'))
    return found
