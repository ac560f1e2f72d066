"""What a manifest says of training, measurements and calibrations: plain JSON, checked when read.

``training``::

    {"commands": [...], "config": {...}, "log": [{"run", "epoch", "phase", "loss",
     "train_accuracy", "test_accuracy", "seconds"}, ...], "float_accuracy": 0.91}

commands from the first run (base, pretraining) to the bundle's own; each epoch says by number which of
them it belongs to, and a base's epochs are in the base's own manifest. `float_accuracy` is that of the
float network just before it was quantised, where the run says.

``measured``::

    {"date": "...", "table": {results, as `evaluate --json` prints them, without layers},
     "slayer": {"date", "command", "samples", "correct", "executor_correct"}}

`slayer` says that SLAYER's own modules and the integer executor gave the same sums on so many test
samples; it is only ever written where they did.

``exits``::

    {"confidence": {"alpha": 0.9},
     NAME: {"policy": {"name", numbers...},
            "calibration": {"date", "command", "dataset", "data": "holdout" | "test", "samples",
                            "seed", "test_samples", more about how...}}}

with ``data`` ``test`` the policy was calibrated on that half of the test split, of `test_samples`
samples, which `seed` draws: evaluations leave that half out.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from neucodex_lava.errors import FormatError
from neucodex_lava.json_fields import Fields
from neucodex_lava.report.results import Results

COMMANDS_LIMIT = 16
COMMAND_LIMIT = 1 << 16
LOG_LIMIT = 4096
LOG_NUMBERS = ("loss", "train_accuracy", "test_accuracy", "seconds")
SAMPLES_LIMIT = 1 << 40
EXITS_LIMIT = 64
BARE, PLACE = "confidence", "place"
"""The one policy that is an alpha and nothing else; and the one whose numbers are a model."""
CALIBRATION_DATA = ("holdout", "test")


def now() -> str:
    """Date and time for a manifest, ISO 8601 in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def check_training(f: Fields) -> dict[str, Any]:
    """The field ``training`` of a manifest.

    Raises:
        FormatError: (of the kind that `f` raises) something is not what it should be.
    """
    commands = f.values.get("commands")
    if not isinstance(commands, list) or not 1 <= len(commands) <= COMMANDS_LIMIT:
        raise f.fail(f"'commands' must be a list of 1 to {COMMANDS_LIMIT} command lines")
    f.texts("commands", len(commands), COMMAND_LIMIT)
    f.mapping("config")
    for entry in f.children("log", LOG_LIMIT):
        entry.integer("run", 0, len(commands) - 1)
        entry.integer("epoch", 0, 1 << 30)
        entry.text("phase")
        for name in LOG_NUMBERS:
            entry.number(name)
    if f.values.get("float_accuracy") is not None:
        _share(f, "float_accuracy")
    return dict(f.values)


def check_measured(f: Fields) -> dict[str, Any]:
    """The field ``measured`` of a manifest.

    Raises:
        FormatError: (of the kind that `f` raises) something is not what it should be.
    """
    f.only("date", "table", "slayer")
    if "table" in f.values:
        f.text("date")
        try:
            Results.from_dict(f.mapping("table"))
        except FormatError as problem:
            raise f.fail(f"'table': {problem.message}") from problem
    if "slayer" in f.values:
        slayer = f.inside("slayer").only(
            "date", "command", "samples", "correct", "executor_correct"
        )
        slayer.text("date")
        slayer.text("command", COMMAND_LIMIT)
        samples = slayer.integer("samples", 1, SAMPLES_LIMIT)
        right = [slayer.integer(n, 0, samples) for n in ("correct", "executor_correct")]
        if right[0] != right[1]:
            raise slayer.fail(f"{right[0]} and {right[1]} right answers cannot come of equal sums")
    return dict(f.values)


def check_exits(f: Fields) -> dict[str, Any]:
    """The field ``exits`` of a manifest; whether a policy's numbers make sense is seen when it is made.

    Raises:
        FormatError: (of the kind that `f` raises) something is not what it should be.
    """
    if len(f.values) > EXITS_LIMIT:
        raise f.fail(f"{len(f.values)} policies, at most {EXITS_LIMIT} are read")
    for name in f.values:
        entry = f.inside(name)
        if "policy" not in entry.values:
            if name != BARE:
                raise entry.fail(
                    "'policy' is missing", f"only '{BARE}' may have a bare alpha: calibrate again"
                )
            entry.only("alpha")
            if not 0 < entry.number("alpha") <= 1:
                raise entry.fail(f"'alpha' is {entry.number('alpha')}, outside (0, 1]")
            continue
        entry.only("policy", "calibration")
        policy = entry.inside("policy")
        if policy.text("name") == PLACE or name.startswith(f"{PLACE}-"):
            policy.mapping("model")
        how = entry.inside("calibration")
        for key in ("date", "command", "dataset"):
            how.text(key, COMMAND_LIMIT)
        if how.text("data") not in CALIBRATION_DATA:
            raise how.fail(f"'data' must be one of {', '.join(CALIBRATION_DATA)}")
        how.integer("samples", 1, SAMPLES_LIMIT)
        how.integer("test_samples", 0, SAMPLES_LIMIT)
        how.integer("seed", 0, (1 << 64) - 1)
    return dict(f.values)


def _share(f: Fields, key: str) -> None:
    if not 0 <= f.number(key) <= 1:
        raise f.fail(f"'{key}' is {f.number(key)}, it must be a share from 0 to 1")
