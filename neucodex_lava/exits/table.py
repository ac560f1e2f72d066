"""Policies as data: which name means which class. A new policy is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neucodex_lava.config import from_dict, require, to_dict
from neucodex_lava.exits.confidence import ConfidencePolicy
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.policy import ExitPolicy

POLICIES: Mapping[str, type[Any]] = {
    "confidence": ConfidencePolicy,
    "fixed": FixedPolicy,
}


def policy_to_dict(policy: ExitPolicy) -> dict[str, Any]:
    """A policy as plain JSON values: its name and its numbers."""
    name = next(name for name, cls in POLICIES.items() if type(policy) is cls)
    return {"name": name, **to_dict(policy)}


def policy_from_dict(raw: Mapping[str, Any]) -> ExitPolicy:
    """The policy that `policy_to_dict` wrote.

    Args:
        raw: ``{"name": "confidence", "t_max": 4, "gain": 64.0, "alpha": 0.9}`` and the like.

    Raises:
        ConfigError: unknown name, unknown or missing number, or one out of range.
    """
    require(isinstance(raw, Mapping), f"exit policy: expected an object, found {raw!r}")
    name = raw.get("name")
    require(
        isinstance(name, str) and name in POLICIES,
        f"unknown exit policy '{name}'",
        f"choose one of {', '.join(POLICIES)}",
    )
    numbers = {key: value for key, value in raw.items() if key != "name"}
    policy: ExitPolicy = from_dict(POLICIES[str(name)], numbers)
    return policy
