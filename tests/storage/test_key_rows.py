"""Keys as rows: where they come from, and what the disk and a clock can tell of them (protocol 8.5)."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from typing import Any

import apsw
import pytest

from forwarder.model import parse_mailbox
from forwarder.storage import keys
from forwarder.storage.keys import Fresh
from forwarder.storage.message_schema import SCHEMA

BRIAN = parse_mailbox("brian@isp.example")


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    made = apsw.Connection(":memory:")
    for migration in SCHEMA:
        made.execute(migration.sql)
    made.execute(
        "INSERT INTO message (account, file, size, sha256, headers, summary, letter, made, expires)"
        " VALUES ('toby', 'f', 1, x'00', 1, x'', x'', 0, 9)"
    )
    yield made
    made.close()


def test_a_key_is_sixteen_octets_that_the_system_drew(
    connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not made of the message, the recipient, the time or a count: whoever knew these would know the key."""
    drawn: list[bytes] = []

    def token_bytes(count: int | None = None) -> bytes:
        drawn.append(bytes([len(drawn) + 1]) * (count or 0))
        return drawn[-1]

    monkeypatch.setattr(secrets, "token_bytes", token_bytes)
    minted = [keys.mint(connection, Fresh(1, BRIAN), 0)[1] for _ in range(3)]
    assert minted == drawn == [b"\1" * 16, b"\2" * 16, b"\3" * 16]


def test_the_index_is_asked_for_a_hash_and_the_key_compared_in_constant_time(
    connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So neither the index nor the comparison takes longer for a guess that is nearly right."""
    _, key = keys.mint(connection, Fresh(1, BRIAN), 0)
    asked: list[Any] = []
    compared: list[tuple[bytes, bytes]] = []
    rows, compare = keys.rows, hmac.compare_digest

    def watched(c: apsw.Connection, sql: str, values: Any) -> list[Any]:
        asked.extend(values)
        return rows(c, sql, values)

    def comparing(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(keys, "rows", watched)
    monkeypatch.setattr(hmac, "compare_digest", comparing)
    found = keys.find(connection, key)
    assert found is not None
    assert found.identifier == key
    assert asked == [keys.lookup(key)]
    assert compared == [(key, key)]
    assert keys.lookup(key) != key
    monkeypatch.setattr(keys, "lookup", lambda _: asked[0])
    assert keys.find(connection, bytes(16)) is None, "a hash that agrees is not yet the key"
