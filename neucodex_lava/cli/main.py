"""Parse, run, and turn errors into one clear line and an exit status.

Exit status: 0 done; 1 the check asked for says no (``verify``, ``doctor``); 2 the user's mistake or
something missing, with one line that says what and the way out; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from neucodex_lava.cli.bridge import Infer, Serve
from neucodex_lava.cli.calibration import Calibrate
from neucodex_lava.cli.certs import Certs
from neucodex_lava.cli.evaluation import Demo, Energy, Evaluate, Report, Sweep
from neucodex_lava.cli.machine import Bench, Doctor
from neucodex_lava.cli.reproduce import Reproduce
from neucodex_lava.cli.simulation import Simulate, Verify
from neucodex_lava.cli.tail_export import ExportTail
from neucodex_lava.cli.training import Convert, Export, Finetune, Train
from neucodex_lava.errors import ConfigError, MissingDependencyError, NeucodexError

COMMANDS: dict[str, type[Any]] = {
    "demo": Demo,
    "train": Train,
    "finetune": Finetune,
    "convert": Convert,
    "export": Export,
    "export-tail": ExportTail,
    "verify": Verify,
    "calibrate": Calibrate,
    "simulate": Simulate,
    "serve": Serve,
    "infer": Infer,
    "certs": Certs,
    "evaluate": Evaluate,
    "sweep": Sweep,
    "energy": Energy,
    "report": Report,
    "reproduce": Reproduce,
    "doctor": Doctor,
    "bench": Bench,
}

DESCRIPTION = """Split a spiking network between a neuromorphic edge chip and the cloud.

Start with: neucodex demo. It trains, exports, simulates in Lava, talks to a real server on this
machine and writes a report, offline, in a few minutes. Every verb has --help."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the script ``neucodex``."""
    # Threads of torch that spin while they wait make training on a busy machine ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    status = run(sys.argv[1:] if argv is None else list(argv))
    # On its way out Python searches all objects for garbage: 0.6 s with torch and Lava loaded, in which
    # nobody answers Ctrl-C. Frozen ones are passed over.
    gc.freeze()
    raise SystemExit(status)


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns the exit status."""
    wants_json = "--json" in argv
    try:
        command = parse(argv)
        return int(command.run())
    except NeucodexError as error:
        report_error(error, wants_json)
        return 2
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("neucodex_lava", "energy", "host_bridge", ""):
            raise
        report_error(missing_package(missing), wants_json)
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("neucodex: interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) is gone.
        sys.stderr.close()
        return 0
    except OSError as error:
        where = f"'{error.filename}': " if error.filename else ""
        report_error(ConfigError(f"{where}{error.strerror or error}"), wants_json)
        return 2


def missing_package(name: str) -> MissingDependencyError:
    """The error for a command whose optional packages are not installed."""
    return MissingDependencyError(
        f"this command needs the package '{name}', which is not installed",
        "neucodex doctor says which extra brings it",
    )


def parse(argv: Sequence[str]) -> Any:
    """The command with its options.

    Raises:
        ConfigError: an unknown verb or option, or a value of the wrong type.
        SystemExit: status 0, after ``--help``.
    """
    if list(argv) == ["--version"]:
        from neucodex_lava import __version__

        sys.stdout.write(f"neucodex-lava {__version__}\n")
        raise SystemExit(0)
    union: Any = None
    for name, cls in COMMANDS.items():
        verb = Annotated[cls, tyro.conf.subcommand(name, prefix_name=False)]
        union = verb if union is None else union | verb
    stdout, stderr = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(stdout):
            return tyro.cli(
                union,
                prog="neucodex",
                description=DESCRIPTION,
                args=list(argv) or ["--help"],
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
                compact_help=False,
            )
    except SystemExit as stop:
        if not stop.code:
            sys.stdout.write(stdout.getvalue())
            raise SystemExit(0) from None
        text = stderr.getvalue() + stdout.getvalue()
        verb = argv[0] if argv and argv[0] in COMMANDS else ""
        hint = f"see neucodex {verb} --help" if verb else "see neucodex --help"
        raise ConfigError(first_problem(text), hint) from None


def first_problem(text: str) -> str:
    """What tyro's error box says, on one line: what is wrong, and what could stand there instead."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    sections: list[list[str]] = [[]]
    for raw in plain.splitlines()[1:]:  # the first line is the box's title
        line = raw.strip(" │|")
        if set(line) <= set("-─╭╮╰╯+"):
            sections.append([])
        else:
            sections[-1].append(line)
    told = [" ".join(s) for s in sections if s]
    kept = [s for i, s in enumerate(told) if i == 0 or s.startswith("Available")]
    return ". ".join(kept).rstrip(".") or "the command line could not be understood"


def report_error(error: NeucodexError, as_json: bool) -> None:
    """One line on stderr, or one JSON object on stdout."""
    if as_json:
        body = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        sys.stdout.write(json.dumps({"error": body}) + "\n")
        return
    line = f"neucodex: {error.message}" + (f": {error.hint}" if error.hint else "")
    sys.stderr.write(" ".join(line.split()) + "\n")
