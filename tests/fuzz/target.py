"""What is fuzzed: one surface each, as octets in and nothing out. Whatever is raised is a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Once = Callable[[bytes], None]


class Target(NamedTuple):
    """make: readies the surface, called once. seeds: good inputs; words: what mutations put in; most: octets."""

    name: str
    make: Callable[[], Once]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()
    most: int = 4096


def plain(once: Once) -> Callable[[], Once]:
    """The `make` of a surface that needs no readying."""
    return lambda: once


def closed(once: Once) -> None:
    """Ends what `make` began, if it has an end."""
    close = getattr(once, "close", None)
    if close is not None:
        close()


class Choices:
    """Octets read as choices: what a mutation turns, another choice is made. At their end all choices are 0."""

    def __init__(self, octets: bytes) -> None:
        self._octets = iter(octets)

    def below(self, limit: int) -> int:
        """0 to limit-1, limit at most 65536."""
        first = next(self._octets, 0)
        return (first if limit <= 256 else first << 8 | next(self._octets, 0)) % limit

    def octets(self, count: int) -> bytes:
        return bytes(next(self._octets, 0) for _ in range(count))

    def rest(self) -> bytes:
        return bytes(self._octets)


def torn(octets: bytes, choices: Choices) -> Iterator[bytes]:
    """The octets in pieces that a stream might give, none of them empty; a choice of 0 is all the rest."""
    at = 0
    while at < len(octets):
        size = choices.below(256) ** 2 // 16 or len(octets)
        yield octets[at : at + size]
        at += size
