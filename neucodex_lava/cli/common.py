"""What every command shares: `--json`, output, progress."""

from __future__ import annotations

import json
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from neucodex_lava.progress import Progress, progress_bars

DataRoot = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """A verb: its fields are its options."""

    json: bool = False
    """Print one JSON object on stdout and nothing else there."""

    @abstractmethod
    def run(self) -> int:
        """Do it.

        Returns:
            The exit status.
        """

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Progress bars on stderr."""
        with progress_bars() as show:
            yield show

    def output(self, result: dict[str, Any], *renderables: Any) -> None:
        """Print the result: as JSON, or the rich renderables."""
        if self.json:
            sys.stdout.write(json.dumps(result, default=_plain) + "\n")
            return
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
        for item in renderables:
            console.print(item)

    def say(self, text: str) -> None:
        """A line for people: on stdout, or on stderr with ``--json``."""
        stream = sys.stderr if self.json else sys.stdout
        stream.write(text + "\n")
        stream.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def command_line() -> str:
    """This process's command, as a user would type it again."""
    return "neucodex " + shlex.join(sys.argv[1:])
