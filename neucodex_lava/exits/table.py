"""Policies as data: which name means which class. A new policy is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neucodex_lava.config import from_dict, require, to_dict
from neucodex_lava.exits.composed import ComposedPolicy
from neucodex_lava.exits.confidence import ConfidencePolicy
from neucodex_lava.exits.entropy import EntropyPolicy
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.patience import PatiencePolicy
from neucodex_lava.exits.policy import ExitPolicy
from neucodex_lava.exits.qlearning import QLearningPolicy
from neucodex_lava.exits.topk import TopKPolicy

POLICIES: Mapping[str, type[Any]] = {
    "confidence": ConfidencePolicy,
    "entropy": EntropyPolicy,
    "topk": TopKPolicy,
    "patience": PatiencePolicy,
    "fixed": FixedPolicy,
    "qlearning": QLearningPolicy,
    "composed": ComposedPolicy,
}


def policy_to_dict(policy: ExitPolicy) -> dict[str, Any]:
    """A policy as plain JSON values: its name and its numbers."""
    name = next(name for name, cls in POLICIES.items() if type(policy) is cls)
    if isinstance(policy, ComposedPolicy):
        parts = [policy_to_dict(part) for part in policy.parts]
        return {"name": name, "parts": parts, "mode": policy.mode}
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
    if name == "composed":
        return _composed(numbers)
    policy: ExitPolicy = from_dict(POLICIES[str(name)], numbers)
    return policy


def _composed(raw: Mapping[str, Any]) -> ComposedPolicy:
    unknown = sorted(set(raw) - {"parts", "mode"})
    require(not unknown, f"ComposedPolicy: unknown field '{unknown[0] if unknown else ''}'")
    parts = raw.get("parts")
    require(isinstance(parts, (list, tuple)), "ComposedPolicy.parts: expected a list")
    assert isinstance(parts, (list, tuple))
    return ComposedPolicy(tuple(policy_from_dict(part) for part in parts), raw.get("mode", "any"))
