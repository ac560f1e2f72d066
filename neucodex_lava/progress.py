"""Progress of long work: a callback everyone can call, and a bar on stderr that shows it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, units done, units in all)."""


def silent(task: str, done: int, total: int) -> None:
    """No progress shown."""


@contextlib.contextmanager
def progress_bars(enabled: bool = True) -> Iterator[Progress]:
    """Bars with rate and time left on stderr, one per task; stdout stays free for results.

    Where stderr is no terminal, one line is printed when a task ends.
    """
    if not enabled:
        yield silent
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.0f}/s" if speed and speed >= 10 else f"{speed or 0:.1f}/s")

    console = Console(file=sys.stderr)
    tasks: dict[str, Any] = {}
    ended: set[str] = set()
    live = console.is_terminal
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, disable=not live, refresh_per_second=5) as bars:

        def show(task: str, done: int, total: int) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total)
            bars.update(tasks[task], completed=done, total=total)
            if done < total:
                ended.discard(task)
            elif not live and task not in ended:
                ended.add(task)
                console.print(f"{task}: {done}/{total} done", highlight=False)

        yield show
