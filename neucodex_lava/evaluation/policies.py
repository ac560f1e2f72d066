"""The exit policy a user asked for, with the bundle's own numbers."""

from __future__ import annotations

from neucodex_lava.bundle import Bundle
from neucodex_lava.exits.policy import ExitPolicy
from neucodex_lava.exits.table import policy_from_dict

DEFAULT_ALPHA = 0.9


def make_policy(bundle: Bundle, name: str, alpha: float | None) -> ExitPolicy:
    """A policy for a bundle's logits.

    Args:
        bundle: gives T_max, the readout's gain and calibrated thresholds.
        name: ``confidence`` or ``fixed``.
        alpha: confidence to reach; None takes the bundle's.

    Raises:
        ConfigError: an unknown policy, or alpha outside (0, 1].
    """
    numbers: dict[str, object] = {"t_max": bundle.manifest.t_max}
    if name == "confidence":
        own = bundle.manifest.exits.get("confidence", {}).get("alpha", DEFAULT_ALPHA)
        numbers |= {"gain": bundle.readout_gain, "alpha": own if alpha is None else alpha}
    return policy_from_dict({"name": name, **numbers})
