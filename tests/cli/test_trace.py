"""`trace`: the story of a notification, or of an address, out of the daemon's own lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

KEY, OTHER = "0a1b2c3d4e5f", "ffffffffffff"
LINES = (
    f"1800000000.250\t{KEY}\tstore.example\tSales@pobox.example\t192.0.2.1\t0\tpassed on",
    f"1800000001.000\t{OTHER}\tstore.example\tbrian@pobox.example\tinner\t48\t",
    f"1800000002.000\t{KEY}\tstore.example\tSales@pobox.example\t-> bob@isp.example\t49\tnot carried",
    "the trace's own remark: 3 lines lost",
)


@pytest.fixture
def traced(folder: Path) -> Path:
    there = folder / "state" / "trace"
    there.mkdir(parents=True)
    (there / "2027-01-15.log").write_text("\n".join(LINES) + "\n")
    return folder


def test_a_handle_in_any_case_tells_each_step(run: Any, traced: Path) -> None:
    said = run("trace", KEY.upper())
    assert said.code == 0
    assert [
        word in said.out
        for word in ("192.0.2.1", "0 taken", "-> bob@isp.example", "49 refused", "2027-01-15 08:00:00.250Z")
    ] == [True] * 5
    assert OTHER not in said.out


def test_an_address_in_any_case_and_the_last_steps_of_it(run: Any, traced: Path) -> None:
    rows = run("trace", "--to", "SALES@pobox.example", "--json").json
    assert [row["code"] for row in rows] == [0, 49]
    assert [row["code"] for row in run("trace", "--to", "sales@pobox.example", "--last", "1", "--json").json] == [49]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("trace",), 2, "expected a HANDLE, or --to ADDRESS"),
        (("trace", KEY, "--to", "a@b.example"), 2, "expected a HANDLE, or --to ADDRESS"),
        (("trace", "nonsense"), 2, "a handle is 12 hex digits"),
        (("trace", "--to", "nonsense"), 2, "is no address"),
        (("trace", "abcdefabcdef"), 1, "nothing is known of abcdefabcdef"),
        (("trace", "--to", "nobody@pobox.example"), 1, "nothing is known of nobody@pobox.example"),
    ],
)
def test_what_a_tired_postmaster_mistypes(run: Any, traced: Path, words: tuple[str, ...], code: int, said: str) -> None:
    ended = run(*words)
    assert ended.code == code
    assert said in ended.err


def test_a_node_that_never_ran_knows_nothing(run: Any, folder: Path) -> None:
    assert run("trace", KEY).code == 1
