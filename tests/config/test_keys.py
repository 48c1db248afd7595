"""The keys our stores sign with: publish first, sign after; files that only their owner may read (protocol 5.0)."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from forwarder.config.check import check
from forwarder.config.keys import GRACE, SigningKeys, TooSoon
from forwarder.signature import key_record

STORE = "pobox.example"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def keys(tmp_path: Path) -> SigningKeys:
    return SigningKeys(tmp_path)


def uses(keys: SigningKeys, now: datetime) -> list[tuple[str, str]]:
    return [(state.key.selector, state.use) for state in keys.states(STORE, now)]


def signer(keys: SigningKeys, now: datetime) -> str | None:
    found = keys.signing(STORE, now)
    return found.selector if found else None


def test_without_a_key_nothing_is_signed_or_published(keys: SigningKeys) -> None:
    assert keys.signing(STORE, NOW) is None
    assert keys.records(STORE, NOW) == {}
    assert not keys.stores


def test_the_first_key_is_published_at_once_and_signs_after_the_wait(keys: SigningKeys) -> None:
    made = keys.rotate(STORE, NOW, HOUR)
    assert keys.records(STORE, NOW) == {"20261124._im2000-key.pobox.example": key_record(made.private)}
    assert signer(keys, NOW + HOUR - timedelta(seconds=1)) is None
    assert signer(keys, NOW + HOUR) == "20261124"


def test_the_old_key_signs_until_the_new_one_does_and_is_published_for_its_grace(keys: SigningKeys) -> None:
    keys.rotate(STORE, NOW, HOUR)
    later = NOW + timedelta(days=100)
    keys.rotate(STORE, later, HOUR)
    assert uses(keys, later) == [("20261124", "signs"), ("20270304", "published")]
    assert signer(keys, later) == "20261124"
    assert signer(keys, later + HOUR) == "20270304"
    assert uses(keys, later + HOUR) == [("20261124", "retired"), ("20270304", "signs")]
    assert len(keys.records(STORE, later + HOUR + GRACE - timedelta(seconds=1))) == 2
    assert list(keys.records(STORE, later + HOUR + GRACE)) == ["20270304._im2000-key.pobox.example"]


def test_what_is_over_leaves_the_disk_with_the_next_rotation(keys: SigningKeys, tmp_path: Path) -> None:
    keys.rotate(STORE, NOW, HOUR)
    keys.rotate(STORE, NOW + timedelta(days=1), HOUR)
    keys.rotate(STORE, NOW + timedelta(days=2), HOUR)
    assert len(list((tmp_path / "keys" / STORE).iterdir())) == 3
    keys.rotate(STORE, NOW + timedelta(days=200), HOUR)
    assert sorted(path.stem for path in (tmp_path / "keys" / STORE).iterdir()) == ["20261126", "20270612"]


def test_while_a_new_key_waits_there_is_no_other(keys: SigningKeys) -> None:
    keys.rotate(STORE, NOW, HOUR)
    with pytest.raises(TooSoon, match="signs from 2026-11-24T13:00:00Z"):
        keys.rotate(STORE, NOW, HOUR)


def test_two_of_a_day_have_two_names(keys: SigningKeys) -> None:
    keys.rotate(STORE, NOW, timedelta(0))
    keys.rotate(STORE, NOW + HOUR, timedelta(0))
    assert uses(keys, NOW + HOUR) == [("20261124", "retired"), ("20261124-2", "signs")]


def test_a_file_is_for_its_owner_alone(keys: SigningKeys, tmp_path: Path) -> None:
    keys.rotate(STORE, NOW, timedelta(0))
    (path,) = (tmp_path / "keys" / STORE).iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    keys.reload()
    assert keys.signing(STORE, NOW) is None
    assert [str(error) for error in keys.errors] == [
        "keys/pobox.example/20261124.toml: is open to others and not used: chmod 600"
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("private = 'AAAA'\nmade = 2026-01-01T00:00:00Z\nsigns = 2026-01-01T00:00:00Z\n", ":1: private: expected 32"),
        ("made = 2026-01-01T00:00:00Z\nsigns = 2026-01-01T00:00:00Z\n", "private"),
        ("private = 'AAAA'\nmade = 2026-01-01T00:00:00\nsigns = 1\n", ":3: signs: expected a time"),
        ("nonsense", ".toml:1"),
    ],
)
def test_a_broken_file_is_told_and_harms_only_itself(
    keys: SigningKeys, tmp_path: Path, text: str, complaint: str
) -> None:
    keys.rotate(STORE, NOW, timedelta(0))
    path = tmp_path / "keys" / STORE / "broken.toml"
    path.write_text(text)
    path.chmod(0o600)
    (path.parent / "20261124.toml~").write_text("an editor's")
    keys.reload()
    assert signer(keys, NOW) == "20261124"
    assert any(complaint in str(error) for error in keys.errors), keys.errors


def test_a_note_beside_the_folders_of_keys_is_told_and_harms_nobody(keys: SigningKeys, tmp_path: Path) -> None:
    keys.rotate(STORE, NOW, HOUR)
    (tmp_path / "keys" / "notes.txt").write_text("ask anna about these")
    keys.reload()
    assert [str(error) for error in keys.errors] == ["keys/notes.txt: cannot be read: Not a directory"]
    assert signer(keys, NOW + HOUR) == "20261124"


def test_a_file_removed_is_a_key_withdrawn(keys: SigningKeys, tmp_path: Path) -> None:
    keys.rotate(STORE, NOW, timedelta(0))
    (tmp_path / "keys" / STORE / "20261124.toml").unlink()
    keys.reload()
    assert keys.signing(STORE, NOW) is None
    assert keys.records(STORE, NOW) == {}


def test_check_tells_it(keys: SigningKeys, tmp_path: Path) -> None:
    (tmp_path / "forwarder.toml").write_text('[node]\nname = "mx.pobox.example"\n')
    keys.rotate(STORE, NOW, timedelta(0))
    assert check(tmp_path, {}) == []
    (tmp_path / "keys" / STORE / "20261124.toml").chmod(0o644)
    assert ["keys/pobox.example/20261124.toml" in finding.file for finding in check(tmp_path, {})] == [True]
