"""The exit policies a user asked for, with the bundle's own numbers or given ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from neucodex_lava.bundle import Bundle
from neucodex_lava.config import require
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.halves import CalibrationHalf
from neucodex_lava.exits.calibration import KINDS
from neucodex_lava.exits.composed import ComposedPolicy, Mode
from neucodex_lava.exits.policy import ExitPolicy, check_t_max
from neucodex_lava.exits.table import POLICIES, policy_from_dict

ORACLE = "oracle"
"""Stops each sample as soon as its answer is right and stays right: it needs the labels."""
STRUCTURAL = "structural-"
"""Before the names of calibrated policies whose timesteps are exit heads (`structural`)."""
PLACE = "place-"
"""Before the names of what is calibrated for each cut to choose between edge and cloud (`place`)."""
APART = (STRUCTURAL, PLACE)
ANSWER_PLACE = "place"
"""Chooses where to answer instead of when to stop."""
NEED_NUMBERS = ("topk", "qlearning", "composed")
"""Policies without sensible numbers of their own."""
WITHOUT_CALIBRATION = tuple(name for name in POLICIES if name not in NEED_NUMBERS)
ALL = "all"
"""In place of names: every policy there is."""
COMPOSED = "composed"
MODES: Mapping[str, Mode] = {"+": "all", "/": "any"}
"""Signs between names, as in ``confidence+patience``: how many of the parts have to stop."""


@dataclass(frozen=True)
class Numbers:
    """Numbers given on the command line; None takes the bundle's, or the policy's default.

    Attributes:
        alpha: confidence to reach.
        threshold: of the policies that compare with one, the same at every timestep.
        patience: timesteps that the answer must stay the same.
    """

    alpha: float | None = None
    threshold: float | None = None
    patience: int | None = None

    def for_policy(self, name: str, t_max: int) -> dict[str, Any]:
        """Those that this policy takes, by the names of its fields."""
        fields = _fields(name)
        given = {k: v for k, v in dataclasses.asdict(self).items() if v is not None and k in fields}
        if self.threshold is not None and "thresholds" in fields:
            given["thresholds"] = (self.threshold,) * t_max
        return given

    def require_use(self, names: Sequence[str], t_max: int) -> None:
        """Raise ConfigError where a number is given that none of these policies takes."""
        for option, value in dataclasses.asdict(self).items():
            one = Numbers(**{option: value})
            parts = [part for name in names for part in parts_of(name)]
            taken = any(one.for_policy(n, t_max) for n in parts if n in POLICIES)
            if value is not None and not taken:
                raise ConfigError(
                    f"--{option} has no effect on {' or '.join(names)}",
                    "leave it out, or choose a policy that takes it with --policy",
                )


OWN = Numbers()
"""Nothing given: the bundle's own numbers, or the policies' defaults."""


@dataclass(frozen=True)
class Choice:
    """An exit policy for one bundle.

    Attributes:
        name: as asked for.
        policy: with its numbers.
        calibration: how they were found; None for given and default ones.
        parts: of a composed one; none was calibrated on another half than the others.
    """

    name: str
    policy: ExitPolicy
    calibration: Mapping[str, Any] | None = None
    parts: tuple[Choice, ...] = ()

    @property
    def half(self) -> CalibrationHalf | None:
        """Test samples that it, or a part of it, was calibrated on."""
        if self.calibration is not None:
            return CalibrationHalf.of(self.calibration)
        return next((part.half for part in self.parts if part.half is not None), None)

    @property
    def how(self) -> str:
        """How its numbers were found, in words; empty where they were not calibrated."""
        found = self.calibration
        if found is None:
            return ", ".join(dict.fromkeys(part.how for part in self.parts if part.how))
        from_where = "of the test split" if found["data"] == "test" else "held out of training"
        return f"{found['samples']:,} samples {from_where}, seed {found['seed']}"


def choose_policy(bundle: Bundle, name: str, numbers: Numbers = OWN) -> Choice:
    """The exit policy of this name for a bundle: calibrated in its manifest, or with given numbers.

    Args:
        bundle: gives T_max, the readout's gain and calibrated policies.
        name: a policy of `POLICIES`, or what `neucodex calibrate` called one; or several, joined by
            one of `MODES`.
        numbers: given ones go before calibrated ones.

    Raises:
        ConfigError: an unknown policy, one that needs calibration first or was calibrated for another
            network, a number out of range, or names that cannot be joined.
    """
    if len(parts_of(name)) > 1:
        return _joined(bundle, name, numbers)
    if name.startswith(APART):
        raise ConfigError(
            f"'{name}' chooses among exit heads, not timesteps alone",
            "evaluate shows what it does by itself, whatever --policy says",
        )
    manifest = bundle.manifest
    entry: dict[str, Any] = manifest.exits.get(name, {})
    given = numbers.for_policy(name, manifest.t_max) if name in POLICIES else {}
    if "policy" in entry and not given:
        policy = policy_from_dict(entry["policy"])
        check_t_max(policy, manifest.t_max, f"bundle '{bundle.path}'")
        return Choice(name, policy, entry["calibration"])
    if name not in POLICIES or (name in NEED_NUMBERS and not given):
        _refuse(bundle, name)
    raw: dict[str, Any] = {"name": name, "t_max": manifest.t_max}
    if "gain" in _fields(name):
        raw["gain"] = bundle.readout_gain
    return Choice(
        name, policy_from_dict(raw | {k: entry[k] for k in entry if k == "alpha"} | given)
    )


def named_policies(names: Sequence[str], bundles: Sequence[Bundle]) -> list[str]:
    """The names asked for, each once; ``all`` is every policy that all these bundles have.

    Raises:
        ConfigError: no name.
    """
    calibrated = [
        name
        for name in bundles[0].manifest.exits
        if not name.startswith(APART)
        if all("policy" in b.manifest.exits.get(name, {}) for b in bundles)
    ]
    every = [*WITHOUT_CALIBRATION, *calibrated, ORACLE]
    found = [n for name in names for n in (every if name == ALL else [name])]
    require(len(found) > 0, "no exit policy was asked for", "choose some with --policy")
    return list(dict.fromkeys(found))


def require_known(names: Sequence[str]) -> None:
    """Raise ConfigError for a name that no policy can ever have."""
    known = [*WITHOUT_CALIBRATION, *map(exit_name, KINDS), ORACLE, ALL]
    for name in names:
        _mode(name)
        for part in parts_of(name):
            require(
                part in known, f"unknown exit policy '{part}'", f"choose one of {', '.join(known)}"
            )


def parts_of(name: str) -> list[str]:
    """The names that one is joined from; of a single one, itself."""
    for sign in MODES:
        name = name.replace(sign, "\0")
    return name.split("\0")


def exit_name(kind: str) -> str:
    """The name under which a calibration of this kind is kept and asked for.

    A policy that works without calibration keeps its own name for its own numbers.
    """
    plain = kind in POLICIES and kind not in NEED_NUMBERS
    return f"{kind}-calibrated" if plain else kind


def make_policy(bundle: Bundle, name: str, alpha: float | None = None) -> ExitPolicy:
    """`choose_policy`'s policy, with this confidence to reach."""
    return choose_policy(bundle, name, Numbers(alpha=alpha)).policy


def _joined(bundle: Bundle, name: str, numbers: Numbers) -> Choice:
    """Policies that stop when all of them, or when any of them, would."""
    mode = _mode(name)
    parts = tuple(choose_policy(bundle, part, numbers) for part in parts_of(name))
    seeds = sorted({part.half.seed for part in parts if part.half is not None})
    require(
        len(seeds) < 2,
        f"the parts of '{name}' were calibrated on different halves of the test split (seeds"
        f" {', '.join(map(str, seeds))})",
        f"calibrate them alike: neucodex calibrate {bundle.path}",
    )
    return Choice(name, ComposedPolicy(tuple(p.policy for p in parts), mode), parts=parts)


def _mode(name: str) -> Mode:
    """How the names in this one are joined; any where there is only one.

    Raises:
        ConfigError: by both signs, or a name is missing, or one cannot be a part.
    """
    signs, parts = [sign for sign in MODES if sign in name], parts_of(name)
    example = "join names by + (all have to stop) or by / (any has to), as confidence+patience"
    require(len(signs) < 2, f"exit policy '{name}' is joined by both + and /", example)
    if len(parts) > 1:
        require(all(parts), f"exit policy '{name}' lacks a name beside its {signs[0]}", example)
        for part in (ORACLE, ALL):
            require(part not in parts, f"exit policy '{name}': '{part}' cannot be a part", example)
    return MODES[signs[0]] if signs else "any"


def _fields(name: str) -> set[str]:
    return {f.name for f in dataclasses.fields(POLICIES[name])}


def _refuse(bundle: Bundle, name: str) -> NoReturn:
    if name == COMPOSED:
        raise ConfigError(
            "exit policy 'composed' needs the names of its parts",
            "confidence+patience stops when all of them do, confidence/patience when any does",
        )
    if name == ANSWER_PLACE:
        raise ConfigError(
            "'place' chooses where to answer, not when to stop",
            "evaluate shows its rows by itself where it is calibrated; infer takes it alone",
        )
    if name in POLICIES or name in map(exit_name, KINDS):
        raise ConfigError(
            f"exit policy '{name}' is not calibrated in bundle '{bundle.path}'",
            f"neucodex calibrate {bundle.path}",
        )
    if name == ORACLE:
        raise ConfigError(
            "the oracle knows labels and the timesteps to come, it cannot decide while a sample runs",
            "evaluate and sweep show what it would need",
        )
    if name == ALL:
        raise ConfigError(
            "one exit policy decides while a sample runs, not all of them",
            "evaluate and sweep take all",
        )
    calibrated = [n for n, entry in bundle.manifest.exits.items() if "policy" in entry]
    choices = [n for n in calibrated if not n.startswith(APART)]
    hint = f"choose one of {', '.join([*WITHOUT_CALIBRATION, *choices, ORACLE, ALL])}"
    if len(choices) < len(calibrated):
        hint += f" (what begins with {' or '.join(APART)} has rows by itself in an evaluation)"
    raise ConfigError(f"unknown exit policy '{name}'", hint)
