"""Whose turn it is: one table for the server's and the client's side of every protocol (protocol 2). Sans-IO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Protocol(NamedTuple):
    """One of the four protocols as data. Limits in octets, idle in seconds."""

    name: str
    command_limit: int
    response_limit: int
    idle: float
    decode_command: Callable[[bytes], Any]
    encode_command: Callable[[Any], bytes]
    decode_response: Callable[[bytes], Any]
    encode_response: Callable[[Any], bytes]
    error: Callable[..., Any]
    """error("errormalformedpdu") -> the ResponseNull with that status and the abort flag of protocol 2."""
