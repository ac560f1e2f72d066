"""Exit policies: when the edge has seen enough. Numpy only, so the edge needs no training code."""

from neucodex_lava.exits.confidence import ConfidencePolicy, max_softmax
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.policy import Action, ExitPolicy, Exits, decide, decide_stepwise
from neucodex_lava.exits.table import POLICIES, policy_from_dict, policy_to_dict

__all__ = [
    "POLICIES",
    "Action",
    "ConfidencePolicy",
    "ExitPolicy",
    "Exits",
    "FixedPolicy",
    "decide",
    "decide_stepwise",
    "max_softmax",
    "policy_from_dict",
    "policy_to_dict",
]
