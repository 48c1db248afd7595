"""TLS from the first octet (protocol 2): a Channel whose octets pass an SSLObject between two buffers in memory.

* 1.2 at least, no renegotiation, no compression. What comes is decrypted as it comes, so nothing is kept but the
  unfinished record, at most 16 KiB; what the handshake may hold OpenSSL bounds itself.
* A server's handshake is driven by `receive`, which has nothing to say until it is done; `ready` tells, for the
  server's clock. A client awaits `secured`, which has verified the name when it returns.
* A broken record, a refused certificate, an end: the stream has ended. close_notify is said where that costs nothing.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from functools import cache

import structlog
import trio

from forwarder.net.channel import RECEIVE, Channel
from forwarder.plugin import PeerError

HANDSHAKE_SECONDS = 15.0

log = structlog.get_logger("forwarder.net")

Trust = Callable[[], ssl.SSLContext]
"""A client's context: whose certificates it believes. Made when the first TLS service is met."""


def system_context() -> ssl.SSLContext:
    """Believes the authorities that this machine believes."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


system_trust: Trust = cache(system_context)


class TlsChannel(Channel):
    """failure: why the handshake or a record was refused, for the log."""

    __slots__ = ("_incoming", "_outgoing", "_said", "_tls", "failure", "ready")

    def secure(self, context: ssl.SSLContext, *, verify: str | None = None) -> None:
        """Before anything else. verify: the name that the server must prove; None: we are the server."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=verify is None, server_hostname=verify)
        self._said = False
        self.ready = False
        self.failure = ""

    def receive(self) -> bytes | None:
        data = super().receive()
        if not data:
            return data
        self._incoming.write(data)
        try:
            if not self.ready:
                self._tls.do_handshake()
                self.ready = True
            plain: bytes | None = self._decrypted()
        except ssl.SSLWantReadError:
            plain = None
        except ssl.SSLZeroReturnError:
            plain = b""
        except ssl.SSLError as error:
            self.failure = failure_of(error)
            plain = b""
        self._flush()
        return plain

    def _decrypted(self) -> bytes:
        """All that can be read now. Raises SSLWantReadError where that is nothing."""
        data = self._tls.read(RECEIVE)
        if not (self._incoming.pending or self._tls.pending()):
            return data
        pieces = [data]
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self._tls.read(RECEIVE):
                pieces.append(piece)
        return b"".join(pieces)

    def send(self, octets: bytes) -> None:
        """Nothing before the handshake is done, nor after goodbye: there is nobody to say it to."""
        if self.ready and octets and not (self.closed or self._said or self.failure):
            self._tls.write(octets)
            self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            super().send(self._outgoing.read())

    def hello(self) -> None:
        """A client's first word."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self._flush()

    def close_when_sent(self) -> None:
        self._farewell()
        self._flush()
        super().close_when_sent()

    def close(self) -> None:
        if not self.closed and not self._pending:
            self._farewell()
            if self._outgoing.pending:
                with contextlib.suppress(OSError):
                    self._socket.send(self._outgoing.read())
        super().close()

    def _farewell(self) -> None:
        if self.ready and not self._said and not self.failure:
            self._said = True
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()


def serve_tls(stream: trio.SocketStream, nursery: trio.Nursery, context: ssl.SSLContext) -> TlsChannel:
    """A client's connection, before its handshake."""
    channel = TlsChannel.of(stream, nursery)
    channel.secure(context)
    return channel


async def secured(stream: trio.SocketStream, nursery: trio.Nursery, trust: Trust, name: str) -> TlsChannel:
    """Our own connection to a server that has proved `name`. Raises PeerError, within HANDSHAKE_SECONDS."""
    channel = TlsChannel.of(stream, nursery)
    try:
        channel.secure(trust(), verify=name)
        channel.hello()
        with trio.move_on_after(HANDSHAKE_SECONDS):
            await _shaken(channel, name)
            return channel
        raise PeerError(f"{name}: no TLS handshake within {HANDSHAKE_SECONDS:.0f} s")
    except BaseException:
        channel.close()
        raise


async def _shaken(channel: TlsChannel, name: str) -> None:
    while not channel.ready:
        await channel.readable()
        data = channel.receive()
        if data == b"":
            raise PeerError(f"{name}: no TLS: {channel.failure or 'the connection ended in the handshake'}")
        if data:
            raise PeerError(f"{name} spoke before it was asked")


async def secured_stream(stream: trio.abc.Stream, trust: Trust, name: str) -> trio.abc.Stream:
    """The same for those who want a stream. Raises PeerError."""
    secure = trio.SSLStream(stream, trust(), server_hostname=name, https_compatible=True)
    try:
        with trio.move_on_after(HANDSHAKE_SECONDS):
            await secure.do_handshake()
            return secure
        raise PeerError(f"{name}: no TLS handshake within {HANDSHAKE_SECONDS:.0f} s")
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        why = failure_of(cause) if isinstance(cause, ssl.SSLError) else "the connection ended in the handshake"
        await trio.aclose_forcefully(stream)
        raise PeerError(f"{name}: no TLS: {why}") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


def note_fall_back(name: str, why: object) -> None:
    """A service over TLS failed and policy lets us speak in clear: never without a word."""
    log.warning("in clear instead of TLS", domain=name, why=str(why))


def failure_of(error: ssl.SSLError) -> str:
    """OpenSSL's complaint in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    return (error.reason or str(error)).replace("_", " ").lower()
