"""Accounts: the file rules at once, guessing is slow, and a stranger's name costs what a real one costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import argon2
import pytest
import trio

from forwarder.config import accounts as room
from forwarder.config.accounts import AccountFiles, hash_password
from forwarder.ports import Account

Write = Callable[[str, str], Path]

BRIAN = Account("brian", frozenset({"read"}), {"recipients_per_day": 5})


@pytest.fixture(autouse=True)
def cheap(monkeypatch: Any) -> None:
    """Hashes that cost little: the real ones would make this a slow test of argon2."""
    monkeypatch.setattr(room, "_hasher", argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


def put(write: Write, name: str = "brian", password: str = "sesame", more: str = "") -> Path:
    return write(
        f"accounts/{name}.toml",
        f'password = "{hash_password(password)}"\nmay = ["read"]\nlimits = {{ recipients_per_day = 5 }}\n{more}',
    )


@pytest.fixture
def files(folder: Path, clock: Any) -> AccountFiles:
    return AccountFiles(folder, clock)


async def test_the_right_password_lets_in(files: AccountFiles, write: Write) -> None:
    put(write)
    assert await files.verify("brian", "sesame", "192.0.2.1") == BRIAN
    assert await files.find("brian") == BRIAN


@pytest.mark.parametrize(
    ("name", "password"), [("brian", "Sesame"), ("anna", "sesame"), ("../brian", "sesame"), ("", ""), ("brian", "")]
)
async def test_anything_else_does_not(files: AccountFiles, write: Write, name: str, password: str) -> None:
    put(write)
    assert await files.verify(name, password, "192.0.2.1") is None


async def test_off_gone_and_a_new_password_count_at_once(files: AccountFiles, write: Write) -> None:
    path = put(write)
    assert await files.verify("brian", "sesame", "192.0.2.1") == BRIAN
    put(write, more='state = "off"\n')
    assert (await files.verify("brian", "sesame", "192.0.2.1"), await files.find("brian")) == (None, None)
    put(write, password="changed")
    assert await files.verify("brian", "sesame", "192.0.2.1") is None
    assert await files.verify("brian", "changed", "192.0.2.1") == BRIAN
    path.unlink()
    assert (await files.verify("brian", "changed", "192.0.2.1"), await files.find("brian")) == (None, None)


async def test_a_broken_file_lets_nobody_in_and_is_told(files: AccountFiles, write: Write) -> None:
    write("accounts/brian.toml", 'password = "sesame"\n')
    assert await files.verify("brian", "sesame", "192.0.2.1") is None
    assert list(files.broken) == ["accounts/brian.toml"]
    put(write)
    assert await files.find("brian") == BRIAN
    assert files.broken == {}


@pytest.fixture
def costly(monkeypatch: Any) -> list[str]:
    """The hashes that were verified the costly way."""
    seen: list[str] = []
    verified = room._verified

    def watched(hashed: str, password: str) -> bool:
        seen.append(hashed)
        return verified(hashed, password)

    monkeypatch.setattr(room, "_verified", watched)
    return seen


async def test_a_success_is_remembered_ten_minutes(
    files: AccountFiles, write: Write, clock: Any, costly: list[str]
) -> None:
    put(write)
    for _ in range(3):
        assert await files.verify("brian", "sesame", "192.0.2.1") == BRIAN
    assert len(costly) == 1
    clock.now += 601
    assert await files.verify("brian", "sesame", "192.0.2.1") == BRIAN
    assert len(costly) == 2


async def test_an_unknown_name_costs_a_verification_too(files: AccountFiles, costly: list[str]) -> None:
    await files.verify("nobody", "sesame", "192.0.2.1")
    [hashed] = costly
    assert argon2.extract_parameters(hashed) == argon2.extract_parameters(hash_password("x"))


async def test_failures_slow_down_their_own_address_only(
    folder: Path, write: Write, autojump_clock: trio.testing.MockClock
) -> None:
    put(write)
    files = AccountFiles(folder, lambda: trio.current_time())
    struck: list[tuple[str, str]] = []
    files.struck = lambda limit, who: struck.append((limit, who))
    waits = []
    for _ in range(6):
        began = trio.current_time()
        await files.verify("brian", "guess", "2001:db8::1")
        waits.append(trio.current_time() - began)
    assert waits == pytest.approx([0, 0, 0, 1, 2, 4], abs=0.1)
    assert struck == [("password guesses", "2001:db8::1")] * 3
    began = trio.current_time()
    await files.verify("brian", "guess", "2001:db8::2:3")
    assert trio.current_time() - began == pytest.approx(8, abs=0.1)
    began = trio.current_time()
    assert await files.verify("brian", "sesame", "192.0.2.1") == BRIAN
    assert trio.current_time() - began == pytest.approx(0, abs=0.1)
    await trio.sleep(1000)
    began = trio.current_time()
    assert await files.verify("brian", "sesame", "2001:db8::1") == BRIAN
    assert trio.current_time() - began == pytest.approx(0, abs=0.1)


def test_a_password_has_bounds() -> None:
    for password in ("", "x" * 1025):
        with pytest.raises(ValueError, match="1 to 1024 octets"):
            hash_password(password)
