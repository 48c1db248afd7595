"""File names of addresses and patterns of local parts, held against simpler oracles."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from forwarder.config.globs import Glob, substitute
from forwarder.config.names import file_name, is_leftover, localpart_of
from forwarder.model import fold_localpart

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


@given(TEXT)
@example("../../etc/passwd")
@example(".hidden")
@example("a%2Fb")
@example("josé")
@example("\x00")
def test_a_file_name_reads_back_to_its_local_part(localpart: str) -> None:
    folded = fold_localpart(localpart)
    assume(fold_localpart(folded) == folded)
    name = file_name(localpart)
    assume(name is not None)
    assert name is not None
    assert localpart_of(name) == folded
    assert name.isascii()
    assert name.isprintable()
    assert "/" not in name
    assert len(name) <= 250
    assert not is_leftover(name)


@pytest.mark.parametrize(
    ("localpart", "name"),
    [
        ("brian", "brian.toml"),
        ("Brian", "brian.toml"),
        ("sales+de", "sales+de.toml"),
        (".dot", "%2Edot.toml"),
        ("a/b%c", "a%2Fb%25c.toml"),
        ("josé", "jos%C3%A9.toml"),
        ("a b", "a b.toml"),
        ("x" * 245, "x" * 245 + ".toml"),
        ("x" * 246, None),
        ("é" * 42, None),
    ],
)
def test_file_names(localpart: str, name: str | None) -> None:
    assert file_name(localpart) == name


@pytest.mark.parametrize("name", ["Brian.toml", "brian.tml", "a%2fb.toml", "%41.toml", "%FF.toml", ".toml", "%.toml"])
def test_names_that_no_address_has(name: str) -> None:
    assert localpart_of(name) is None


GLOB = st.text("ab-*?", min_size=1, max_size=8)
NAME = st.text("ab-", min_size=1, max_size=10)


@given(GLOB, NAME)
def test_a_glob_matches_as_fnmatch_does(text: str, name: str) -> None:
    glob = Glob(text)
    groups = glob.match(name)
    assert (groups is not None) == fnmatch.fnmatchcase(name, text)
    if groups is not None:
        assert len(groups) == glob.groups


@given(GLOB, st.lists(st.text("ab-", max_size=3), min_size=8, max_size=8))
def test_the_groups_fill_the_pattern_again(text: str, fillings: list[str]) -> None:
    fill = iter(fillings)
    name = "".join({"*": next(fill), "?": "a"}.get(piece, piece) for piece in _pieces(text))
    groups = Glob(text).match(name)
    assert groups is not None
    left = iter(groups)
    assert "".join(next(left) if piece in ("*", "?") else piece for piece in _pieces(text)) == name


def _pieces(text: str) -> list[str]:
    """The pattern cut in wildcards and characters; several stars in a row are one."""
    pieces: list[str] = []
    for letter in text:
        if letter != "*" or not pieces or pieces[-1] != "*":
            pieces.append(letter)
    return pieces


@given(GLOB, GLOB)
def test_ties_are_found_exactly(one: str, other: str) -> None:
    left, right = Glob(one), Glob(other)
    assert left.ties(right) == right.ties(left)
    if left.literals == right.literals and not left.ties(right):
        for name in NAMES:
            assert not (left.match(name) and right.match(name)), name
    if left.literals != right.literals:
        assert not left.ties(right)


NAMES = [a + b + c + d for a in ["", *"ab-"] for b in ["", *"ab-"] for c in ["", *"ab-"] for d in "ab-"]


def test_classes_and_what_is_no_pattern() -> None:
    assert Glob("[ab]x").match("bx") == ("b",)
    assert Glob("[!ab]x").match("bx") is None
    assert Glob("a[").match("a[") == ()
    assert Glob("Sales-*").match("sales-de") == ("de",)
    for text in ("", "[z-a]", "?" * 21):
        with pytest.raises(ValueError, match=r"pattern|wildcards"):
            Glob(text)


def test_a_hostile_name_is_matched_in_linear_time() -> None:
    assert Glob("*a*a*a*a*a*a*a*b").match("a" * 255) is None


def test_wildcards_fill_templates() -> None:
    assert substitute("{2}.{1}", ("a", "b")) == "b.a"
