"""Patterns of local parts: `*`, `?`, `[abc]`, `[!abc]`, each a group that `{1}`, `{2}` … name.

Matching is linear: each star but the last takes the nearest end and never gives back, which is enough for a glob.
"""

from __future__ import annotations

import re

from forwarder.model import LOCALPART_OCTETS, fold_localpart

_PIECE = re.compile(r"\*+|\?|\[(!?)(\]?[^\]]*)\]|.", re.DOTALL)
_GROUP = re.compile(r"\{(\d+)\}")
WILDCARDS = 20


class Glob:
    """A compiled pattern. Raises ValueError where it has no letters or marks, or too many wildcards."""

    def __init__(self, text: str) -> None:
        folded = fold_localpart(text)
        if not folded or len(folded.encode()) > LOCALPART_OCTETS:
            raise ValueError(f'expected a pattern such as "sales-*", found {text!r}')
        self.text = folded
        self._pieces = [_piece(match) for match in _PIECE.finditer(folded)]
        self.groups = sum(wild for wild, _ in self._pieces)
        if self.groups > WILDCARDS:
            raise ValueError(f"has {self.groups} wildcards, expected at most {WILDCARDS}")
        self.literals = sum(not wild for wild, _ in self._pieces)
        try:
            self._regex = self._compiled()
        except re.error as error:
            raise ValueError(f"{text!r} is no pattern: {error.msg}") from None

    def _compiled(self) -> re.Pattern[str]:
        chunks, chunk = [], ""
        for wild, piece in self._pieces:
            if piece == "*":
                chunks.append(chunk)
                chunk = ""
            else:
                chunk += f"({piece})" if wild else piece
        if not chunks:
            return re.compile(chunk + r"\Z", re.DOTALL)
        middle = "".join(f"(?>(.*?){part})" for part in chunks[1:])
        return re.compile(f"{chunks[0]}{middle}(.*){chunk}\\Z", re.DOTALL)

    def match(self, localpart: str) -> tuple[str, ...] | None:
        """What each wildcard stands for in a folded local part; None where it does not match."""
        found = self._regex.match(localpart)
        return found.groups() if found else None

    def ties(self, other: Glob) -> bool:
        """Whether some local part is matched by both, with as many literal characters."""
        return self.literals == other.literals and _meet(self._pieces, other._pieces)


def groups_in(text: str) -> set[int]:
    """The numbers that `{1}` … in a text name."""
    return {int(number) for number in _GROUP.findall(text)}


def substitute(text: str, groups: tuple[str, ...]) -> str:
    """`{1}` … replaced by what the wildcards stood for."""
    return _GROUP.sub(lambda found: groups[int(found[1]) - 1], text)


def _piece(match: re.Match[str]) -> tuple[bool, str]:
    """(is a wildcard, its expression); a star stays one."""
    text = match[0]
    if text[0] == "*":
        return True, "*"
    if text == "?":
        return True, "."
    if text[0] == "[" and len(text) > 1:
        inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", match[2])
        return True, f"[{'^' if match[1] else ''}{inner}]"
    return False, re.escape(text)


def _meet(left: list[tuple[bool, str]], right: list[tuple[bool, str]]) -> bool:
    """Whether two patterns have a text in common: both walked at once over the positions they can be in."""
    todo, seen = [(0, 0)], set()
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        i, j = at
        if i == len(left) and j == len(right):
            return True
        star_left = i < len(left) and left[i][1] == "*"
        star_right = j < len(right) and right[j][1] == "*"
        if star_left:
            todo.append((i + 1, j))
        if star_right:
            todo.append((i, j + 1))
        if i < len(left) and j < len(right):
            if star_left and not star_right:
                todo.append((i, j + 1))
            elif star_right and not star_left:
                todo.append((i + 1, j))
            elif not star_left and _share(left[i], right[j]):
                todo.append((i + 1, j + 1))
    return False


_LETTERS = [chr(code) for code in range(0x20, 0x17F)]


def _share(left: tuple[bool, str], right: tuple[bool, str]) -> bool:
    """Whether one character fits both pieces."""
    if not left[0] and not right[0]:
        return left[1] == right[1]
    for one, other in ((left, right), (right, left)):
        if not one[0]:
            return re.fullmatch(other[1], re.sub(r"\\(.)", r"\1", one[1]), re.DOTALL) is not None
    return any(re.fullmatch(left[1], c, re.DOTALL) and re.fullmatch(right[1], c, re.DOTALL) for c in _LETTERS)
