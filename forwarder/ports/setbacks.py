"""How a task goes on that met a failing disk, or a bug: soon at first, then less often, not in a circle, not never."""

from __future__ import annotations

FIRST, LONGEST = 1.0, 60.0
"""Seconds of the first pause, which doubles, and of the longest."""
APART = 10_000
"""Rows whose failures are counted apart from each other; the oldest are forgotten first."""


class Setback:
    """Of one task. `of`: a row that may fail apart from the others, else None."""

    def __init__(self) -> None:
        self._met: dict[object, tuple[int, str]] = {}

    def pause(self, error: Exception, of: object = None) -> float:
        """Seconds to wait before the next try."""
        times = self._met.pop(of, (0, ""))[0]
        if len(self._met) >= APART:
            del self._met[next(iter(self._met))]
        self._met[of] = times + 1, f"{type(error).__name__}: {error}"
        return min(FIRST * 2.0 ** min(times, 30), LONGEST)

    def over(self, of: object = None) -> None:
        """It went well."""
        self._met.pop(of, None)

    @property
    def last(self) -> str:
        """What it met last and has not got over yet, for `status`; else empty."""
        return next(reversed(self._met.values()))[1] if self._met else ""
