"""Strict DER (protocol 3.6)."""

from __future__ import annotations


class MalformedPDU(ValueError):  # noqa: N818  # the protocol's own word
    """A PDU that is not one. `unexpected`: good DER, wrong command (errorunexpectedcommand, session kept)."""

    def __init__(self, text: str, *, unexpected: bool = False) -> None:
        super().__init__(text)
        self.unexpected = unexpected
