"""The notebook: durable, private, one item a key, numbers never given twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder.reader.notebook import REMEMBER_LEGACY, Arrived, Notebook, NotebookError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "there" / "reader.db"


@pytest.fixture
def book(path: Path) -> Iterator[Notebook]:
    opened = Notebook(path)
    yield opened
    opened.close()


def arrived(key: bytes, cursor: bytes | None = None, store: str = "store.example") -> Arrived:
    return Arrived(store, key, b"octets of " + key, 1000, 5, cursor)


def test_the_file_is_mine_alone(book: Notebook, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_what_was_saved_is_there_for_the_next_verb(book: Notebook, path: Path) -> None:
    book.save("agent", [arrived(b"a", b"1"), arrived(b"b", b"2")])
    other = Notebook(path)
    assert [(item.number, item.key, item.octets) for item in other.items()] == [
        (1, b"a", b"octets of a"),
        (2, b"b", b"octets of b"),
    ]
    other.close()


def test_two_agents_that_show_one_key_make_one_item_and_both_are_told(book: Notebook) -> None:
    book.save("one", [arrived(b"a", b"1")])
    book.save("two", [arrived(b"a", b"9")])
    (item,) = book.items()
    book.closed(item.number, 1000)
    assert book.items() == []
    assert sorted(book.places(item.number)) == [("one", b"1"), ("two", b"9")]
    book.told("one", [b"1"])
    assert [each.number for each in book.items(closing=True)] == [1]
    book.told("two", [b"9"])
    assert book.items(closing=True) == []


def test_one_key_at_two_stores_is_two_items(book: Notebook) -> None:
    book.save("one", [arrived(b"a", b"1"), arrived(b"a", b"2", store="other.example")])
    assert len(book.items()) == 2


def test_a_number_that_no_item_can_have_is_no_item(book: Notebook) -> None:
    assert book.item(10**20) is None


def test_a_closed_key_never_waits_again(book: Notebook) -> None:
    book.save("one", [arrived(b"a", b"1")])
    book.closed(1, 1000)
    book.told("one", [b"1"])
    book.save("one", [arrived(b"a", b"7"), arrived(b"b", b"8")])
    assert [item.key for item in book.items()] == [b"b"]
    assert [item.key for item in book.items(closing=True)] == [b"a"], "it is to be cleared at its agent"
    book.save("of 2004", [arrived(b"a")])
    book.save_list("list", [b"a"], 1, 1000)
    assert [item.key for item in book.items()] == [b"b"]


def test_an_agent_that_lost_its_disk_may_use_a_cursor_again(book: Notebook) -> None:
    book.save("one", [arrived(b"a", b"1")])
    book.save("one", [arrived(b"b", b"1")])
    assert (book.places(1), book.places(2)) == ([], [("one", b"1")])


def test_missing_is_what_an_agent_shows_no_more(book: Notebook) -> None:
    book.save("one", [arrived(b"a", b"1"), arrived(b"b", b"2")])
    book.save("one", [arrived(b"a", b"3")])
    assert [item.key for item in book.missing("one", {b"3"})] == [b"b"]
    assert book.missing("two", set()) == []


def test_a_peer_of_2004_is_remembered_for_a_day(book: Notebook) -> None:
    book.legacy("one", 1000)
    assert book.is_legacy("one", 1000 + REMEMBER_LEGACY - 1)
    assert not book.is_legacy("one", 1000 + REMEMBER_LEGACY)
    assert not book.is_legacy("two", 1000)


def test_a_notebook_of_a_newer_program_is_left_alone(book: Notebook, path: Path) -> None:
    book._db.execute("PRAGMA user_version = 99")
    with pytest.raises(NotebookError, match="newer"):
        Notebook(path)
