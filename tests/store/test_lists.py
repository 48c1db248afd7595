"""Lists by seconds: who goes on from `end` meets every key (protocol 5.5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forwarder.store.lists import Page, capability, page


@given(st.lists(st.integers(100, 120)), st.integers(1, 5))
def test_reading_page_by_page_meets_every_key(seconds: list[int], limit: int) -> None:
    items = [(at, f"{number}".encode()) for number, at in enumerate(sorted(seconds))]
    met: set[bytes] = set()
    begin = 0
    for _ in range(50):
        got = page([item for item in items if item[0] >= begin], begin, 130, limit)
        met.update(got.keys)
        begin = got.end
    assert met == {key for _, key in items}


def test_the_end_is_never_past_the_present_second_so_its_items_come_again() -> None:
    first = page([(100, b"a")], 90, 100)
    assert first == Page((b"a",), 100)
    assert page([(100, b"a"), (100, b"b")], first.end, 101) == Page((b"a", b"b"), 101)


def test_who_asks_from_a_time_to_come_is_brought_back_to_the_present() -> None:
    """Somebody's clock was wrong: were the end his own begin he would miss all until then."""
    assert page([], (1 << 62) + 90, 100) == Page((), 100)


def test_a_full_answer_ends_at_a_seconds_border() -> None:
    assert page([(1, b"a"), (2, b"b"), (2, b"c"), (3, b"d")], 0, 9, limit=2) == Page((b"a",), 2)


def test_a_capability_is_128_bits_and_never_the_same() -> None:
    names = {capability() for _ in range(100)}
    assert len(names) == 100
    assert {len(name) for name in names} == {32}
