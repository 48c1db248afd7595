"""Where each value of a TOML file stands, and the one form in which a mistake is told: `file:line: key: text`.

The scanner reads only what tomllib has accepted, so it may be simple: it knows headers, keys and where values end.
Inline tables fall back to the line of their item or key. All errors of a file are told at once.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FILE_OCTETS = 1 << 20
KEY_PARTS = 32
"""Of one dotted key: its time and memory grow with the square of them."""

Steps = tuple[str | int, ...]

_KEY = re.compile(r"""[ \t]*("(?:\\.|[^"\\])*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")
_VALUE = re.compile(
    r'"""(?:\\.|(?!""").)*"{3,5}'
    r"|'''(?:(?!''').)*'{3,5}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'|\#[^\n]*|[\[\]{},\n]|[ \t\r]+|[^\s\"'\#\[\]{},]+",
    re.DOTALL,
)
_LONG_KEY = re.compile(
    r"""(?:^|[\[{,])[ \t]*+(?:(?:"(?:\\.|[^"\\\n])*+"|'[^'\n]*+'|[A-Za-z0-9_-]++)[ \t]*+\.[ \t]*+)"""
    f"{{{KEY_PARTS}}}",
    re.MULTILINE,
)
_NUL = re.compile(r"\\(?:u0000|U00000000)")
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_POSITION = re.compile(r" ?\(at (?:line (\d+), column \d+|end of document)\)$")


class ConfigError(Exception):
    """One mistake. file: relative to the configuration folder when inside; line 0: the file as a whole.

    As text it is one line that a terminal only prints, whatever the file holds.
    """

    def __init__(self, file: str, line: int, key: str, text: str) -> None:
        super().__init__(file, line, key, text)
        self.file, self.line, self.key, self.text = file, line, key, text

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return _on_a_line(f"{where}: {self.key}: {self.text}" if self.key else f"{where}: {self.text}")


def _on_a_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ConfigErrors(Exception):
    """All that is wrong, in the order of the files and their lines."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: (error.file, error.line)))
        super().__init__(*self.errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class Stamp(NamedTuple):
    """What tells one version of a file from another without reading it."""

    mtime_ns: int
    inode: int
    size: int


class Document(NamedTuple):
    """A TOML file as read: its name for people, its values, and the line of each."""

    file: str
    data: dict[str, Any]
    lines: Mapping[Steps, int]

    def line(self, path: Iterable[str | int]) -> int:
        """The line of a value, else of what holds it; 1 if nothing of it is written here."""
        steps = tuple(path)
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return self.lines.get(steps, 1)

    def error(self, path: Iterable[str | int], text: str) -> ConfigError:
        """A mistake at the value of this path."""
        steps = tuple(path)
        return ConfigError(self.file, self.line(steps), dotted(steps), text)


def located(errors: ConfigErrors, path: Path, folder: Path) -> ConfigErrors:
    """With the lines of their keys in that file, as far as it can still be read."""
    try:
        document = read(path, folder)
    except (OSError, ConfigErrors):
        return errors
    return ConfigErrors([document.error(error.key.split("."), error.text) for error in errors.errors])


def dotted(path: Iterable[str | int]) -> str:
    """A path as an operator writes it: `pull_hold.keep`; places in lists are told by the line."""
    return ".".join(step if _BARE.match(step) else f'"{step}"' for step in path if isinstance(step, str))


def inside(path: Path, folder: Path) -> str:
    """The name of a file for people: relative to the configuration folder when it lies there."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_mtime_ns, status.st_ino, status.st_size)


def read_text(path: Path, file: str) -> tuple[str, Stamp]:
    """The text of a regular file of at most 1 MiB. Raises OSError, ConfigErrors."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:  # not in the hands of open() at once, which leaves the descriptor of a folder open
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigErrors([ConfigError(file, 0, "", "is no regular file")])
        with open(descriptor, "rb", closefd=False) as opened:
            octets = opened.read(FILE_OCTETS + 1)
    finally:
        os.close(descriptor)
    if len(octets) > FILE_OCTETS:
        raise ConfigErrors([ConfigError(file, 0, "", f"is over {FILE_OCTETS} octets long")])
    try:
        return octets.decode(), stamp_of(status)
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ConfigErrors([ConfigError(file, line, "", "is not UTF-8")]) from None


def parse(text: str, file: str) -> Document:
    """TOML text with the line of each value. Raises ConfigErrors with the line of a syntax error."""
    if found := _LONG_KEY.search(text):
        line = text.count("\n", 0, found.end()) + 1
        raise ConfigErrors([ConfigError(file, line, "", f"a key of over {KEY_PARTS} parts")])
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also integers of thousands of digits
        said = str(error)
        at = _POSITION.search(said)
        line = int(at[1]) if at and at[1] else text.rstrip("\n").count("\n") + 1 if at else 0
        wrong = _POSITION.sub("", said) or "cannot be read"
        raise ConfigErrors([ConfigError(file, line, "", f"no TOML: {wrong[0].lower()}{wrong[1:]}")]) from None
    lines: dict[Steps, int] = {}
    for path, line in _positions(text.replace("\r\n", "\n")):
        lines.setdefault(path, line)
    document = Document(file, data, lines)
    if _NUL.search(text) and (at_nul := _with_nul(data, ())) is not None:
        raise ConfigErrors([document.error(at_nul, "holds the character U+0000, which no name has")])
    return document


def _with_nul(value: object, path: Steps) -> Steps | None:
    """Where a text, or a key, holds a NUL: no name of a file, a group or a domain does."""
    if isinstance(value, str):
        return path if "\0" in value else None
    if isinstance(value, dict):
        if bad := next((key for key in value if "\0" in key), None):
            return (*path, bad)
        under = [_with_nul(below, (*path, key)) for key, below in value.items()]
    elif isinstance(value, list):
        under = [_with_nul(below, (*path, place)) for place, below in enumerate(value)]
    else:
        return None
    return next((found for found in under if found is not None), None)


def read(path: Path, folder: Path) -> Document:
    """A TOML file of the configuration folder. Raises OSError, ConfigErrors."""
    file = inside(path, folder)
    return parse(read_text(path, file)[0], file)


def key_path(text: str, at: int = 0) -> tuple[tuple[str, ...], int]:
    """A bare, quoted or dotted TOML key and where it ends. Raises ValueError where there is none."""
    steps: list[str] = []
    while True:
        match = _KEY.match(text, at)
        if not match:
            raise ValueError(f"{text!r} is no key")
        steps.append(next(iter(tomllib.loads(f"{match[1]} = 0"))) if match[1][0] in "\"'" else match[1])
        at = match.end()
        if text[at : at + 1] != ".":
            return tuple(steps), at
        at += 1


def _positions(text: str) -> Iterator[tuple[Steps, int]]:
    """(path, line) of tables, keys and the items of lists, in the order of the text."""
    at, line, table = 0, 1, ()  # type: tuple[int, int, Steps]
    counters: dict[Steps, int] = {}
    while at < len(text):
        if text[at] in " \t\n":
            line += text[at] == "\n"
            at += 1
        elif text[at] == "#":
            at = _line_end(text, at)
        elif text[at] == "[":
            many = text.startswith("[[", at)
            keys, _ = key_path(text, at + 1 + many)
            table = _under(keys, counters, many)
            yield keys, line
            yield table, line
            at = _line_end(text, at)
        else:
            keys, at = key_path(text, at)
            for depth in range(1, len(keys) + 1):
                yield table + keys[:depth], line
            items, at, after = _value(text, at + 1, line)
            yield from ((table + keys + (item,), where) for item, where in items)
            line = after


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _under(keys: tuple[str, ...], counters: dict[Steps, int], many: bool) -> Steps:
    """The path of a table: parts that are arrays of tables stand for their last item."""
    path: Steps = ()
    for depth, key in enumerate(keys):
        path += (key,)
        if many and depth == len(keys) - 1:
            counters[path] = counters.get(path, -1) + 1
        if path in counters:
            path += (counters[path],)
    return path


def _value(text: str, at: int, line: int) -> tuple[list[tuple[int, int]], int, int]:
    """The (place, line) of each item if the value is a list; where the value ends, and on which line."""
    items: list[tuple[int, int]] = []
    opened: list[str] = []
    place = 0
    while at < len(text):
        match = _VALUE.match(text, at)
        assert match is not None
        word = match[0]
        if word == "\n" and not opened:
            break
        begun = opened == ["["] and not word.isspace() and word[0] not in ",]#"
        if begun and (not items or items[-1][0] != place):
            items.append((place, line))
        if word in ("[", "{"):
            opened.append(word)
        elif word in ("]", "}"):
            opened.pop()
        elif word == "," and opened == ["["]:
            place += 1
        line += word.count("\n")
        at = match.end()
    return items, at, line
