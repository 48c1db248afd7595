"""The mutator for where there is no coverage guidance: good inputs, a little damaged, by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

MOST = 6  # changes to one input


class Mutator:
    """Inputs after inputs, the same for the same seed."""

    def __init__(self, seed: int, pool: Sequence[bytes], words: Sequence[bytes], most: int) -> None:
        self._chance = random.Random(seed)
        self._pool, self._words, self._most = list(pool), list(words) or [b"\0", b"\xff"], most
        self._changes: list[Callable[[bytearray, int], None]] = [
            self._octet,
            self._word,
            self._over,
            self._cut,
            self._grafted,
            self._repeated,
            self._near,
        ]

    def __next__(self) -> bytes:
        chance = self._chance
        octets = bytearray(chance.choice(self._pool))
        for _ in range(chance.randrange(MOST)):
            chance.choice(self._changes)(octets, chance.randrange(len(octets) + 1))
        return bytes(octets[: self._most])

    def _octet(self, octets: bytearray, at: int) -> None:
        octets[at : at + 1] = bytes((self._chance.randrange(256),))

    def _word(self, octets: bytearray, at: int) -> None:
        octets[at:at] = self._chance.choice(self._words)

    def _over(self, octets: bytearray, at: int) -> None:
        word = self._chance.choice(self._words)
        octets[at : at + len(word)] = word

    def _cut(self, octets: bytearray, at: int) -> None:
        del octets[at : at + self._chance.randrange(1, 9)]

    def _grafted(self, octets: bytearray, at: int) -> None:
        other = self._chance.choice(self._pool)
        start = self._chance.randrange(len(other) + 1)
        octets[at:at] = other[start : start + self._chance.randrange(1, 40)]

    def _repeated(self, octets: bytearray, at: int) -> None:
        octets[at:at] = octets[at : at + self._chance.randrange(1, 20)] * self._chance.choice((1, 2, 30))

    def _near(self, octets: bytearray, at: int) -> None:
        """A length off by a little."""
        if at < len(octets):
            octets[at] = (octets[at] + self._chance.choice((-1, 1, 2))) % 256
