"""What takes its time shows that it goes on: on standard error, on a terminal only, and gone when it is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(what: str) -> Iterator[Callable[[], None]]:
    """Yields what to call for each step, from any thread; a turning sign, their count and the time are shown."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    counted = TextColumn("{task.fields[steps]}")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), counted, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task, steps = shown.add_task(what, total=None, steps=""), 0

        def step() -> None:
            nonlocal steps
            steps += 1
            shown.update(task, steps=f"{steps:,}")

        yield step
