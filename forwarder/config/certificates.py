"""The certificates of `[[tls]]` and the authorities of `[network] ca`, read from their files.

A pair is tried before it counts: certificate and key belong together, and a handshake in memory says what a stranger
would see. What is wrong is told at its line of the node file.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import stat
import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from forwarder.config.lines import ConfigError, ConfigErrors, read
from forwarder.config.settings import FILE, Settings, Tls

SOON_DAYS = 14
FILE_OCTETS = 1 << 20
SERVICES = ("rnasp", "msrap", "rnaqp", "msoap")

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED


class BadPair(ValueError):
    """key: the key of `[[tls]]` that is to blame."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


class Unacceptable(ValueError):
    """The pair loads, but no peer will accept the certificate."""


class Seen(NamedTuple):
    """A certificate as a stranger sees it. names: "isp.example", "*.isp.example". ends in Unix seconds."""

    names: tuple[str, ...]
    ends: float


def load_pair(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context: TLS 1.2 at least, no renegotiation. Raises BadPair."""
    for name, path in (("certificate", certificate), ("key", key)):
        _text(path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0  # nobody resumes, and a ticket sent to a peer that has gone resets the connection
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # a file that went away meanwhile, too
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise BadPair("key", f'"{key.name}" is not the key of this certificate') from None
        name, path = ("key", key) if _PEM.search(_text(certificate, "certificate")) else ("certificate", certificate)
        raise BadPair(name, f'"{path.name}" holds no {name} in PEM that we can read') from None
    return context


def believe(context: ssl.SSLContext, path: Path) -> None:
    """Adds the authorities of a file to a client's context. Raises BadPair."""
    try:
        context.load_verify_locations(cadata=_text(path, "ca"))
    except ssl.SSLError:
        raise BadPair("ca", f'"{path.name}" holds no certificates in PEM that we can read') from None


def look_at(context: ssl.SSLContext, certificate: Path) -> Seen:
    """The certificate of a server's context, by a handshake in memory. Raises Unacceptable."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trusted as it stands: who signed it is others' question
    leaf = _PEM.search(_text(certificate, "certificate"))
    assert leaf is not None
    client.load_verify_locations(cadata=leaf[0])
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there)
    ends = (ours, context.wrap_bio(there, back, server_side=True))
    try:
        for end in (*ends, *ends):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        text = "has expired" if error.verify_code == _EXPIRED else f"is refused: {error.verify_message}"
        raise Unacceptable(text) from None
    said: Any = ours.getpeercert()
    names = tuple(value.lower() for kind, value in said.get("subjectAltName", ()) if kind == "DNS")
    return Seen(names, ssl.cert_time_to_seconds(said["notAfter"]))


def require_all(settings: Settings) -> None:
    """Before the daemon starts. Raises ConfigErrors with all that is wrong about TLS."""
    errors = [*_listeners(settings), *_authorities(settings)]
    for number, pair in enumerate(settings.tls):
        try:
            load_pair(settings.path(pair.certificate), settings.path(pair.key))
        except BadPair as bad:
            errors.append(_error(settings, ("tls", number, bad.key), str(bad)))
    if errors:
        raise ConfigErrors(errors)


def errors_and_warnings(settings: Settings, hosted: Collection[str]) -> Iterator[tuple[bool, ConfigError]]:
    """For `check`: whether each is an error. hosted: our domains."""
    yield from ((True, error) for error in (*_listeners(settings), *_authorities(settings)))
    names: list[str] = []
    for number, pair in enumerate(settings.tls):
        tell = partial(_error, settings)
        names += pair.domains
        try:
            context = load_pair(settings.path(pair.certificate), settings.path(pair.key))
            seen = look_at(context, settings.path(pair.certificate))
        except BadPair as bad:
            yield True, tell(("tls", number, bad.key), str(bad))
            continue
        except Unacceptable as bad:
            yield False, tell(("tls", number, "certificate"), str(bad))
            continue
        yield from ((False, tell(("tls", number, key), text)) for key, text in _doubts(settings, pair, seen))
    if settings.tls and any(_tls_listeners(settings)):
        for domain in sorted(set(hosted) - set(names)):
            yield False, _error(settings, ("tls",), f"{domain} is hosted here and no [[tls]] domains names it")


def _doubts(settings: Settings, pair: Tls, seen: Seen) -> Iterator[tuple[str, str]]:
    days = (seen.ends - time.time()) / 86400
    if days < SOON_DAYS:
        yield "certificate", f"expires in {days:.0f} days"
    for domain in pair.domains:
        if domain not in seen.names and f"*.{domain.partition('.')[2]}" not in seen.names:
            yield "domains", f"the certificate does not name {domain}: peers will refuse it"
    if settings.path(pair.key).stat().st_mode & stat.S_IROTH:
        yield "key", "anybody on this machine can read it; chmod o-r"


def _listeners(settings: Settings) -> Iterator[ConfigError]:
    """Services that are to speak TLS without a certificate."""
    if not settings.tls:
        for key in _tls_listeners(settings):
            yield _error(settings, ("listen", key), "needs a certificate: add a [[tls]] table")


def _authorities(settings: Settings) -> Iterator[ConfigError]:
    if settings.network.ca:
        try:
            believe(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings.path(settings.network.ca))
        except BadPair as bad:
            yield _error(settings, ("network", "ca"), str(bad))


def _tls_listeners(settings: Settings) -> Iterator[str]:
    return (f"{name}_tls" for name in SERVICES if getattr(settings.listen, f"{name}_tls"))


def _text(path: Path, key: str) -> str:
    try:
        if not path.is_file():
            raise BadPair(key, f'there is no file "{path.name}"')
        with path.open(encoding="ascii", errors="replace") as opened:
            return opened.read(FILE_OCTETS)
    except OSError as error:
        raise BadPair(key, f'"{path.name}" cannot be read: {error.strerror}') from None


def _no_password() -> str:
    """A key that wants a password is none that a daemon can use."""
    return ""


def _error(settings: Settings, path: tuple[str | int, ...], text: str) -> ConfigError:
    return read(settings.folder / FILE, settings.folder).error(path, text)
