"""Exit policies: when the edge has seen enough. Numpy only, so the edge needs no training code."""

from neucodex_lava.exits.composed import ComposedPolicy
from neucodex_lava.exits.confidence import ConfidencePolicy, max_softmax
from neucodex_lava.exits.entropy import EntropyPolicy, normalised_entropy
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.metrics import (
    CurvePoint,
    calibration_error,
    curve,
    exit_histogram,
    optimal_cutoff,
    right,
)
from neucodex_lava.exits.oracle import OraclePolicy
from neucodex_lava.exits.patience import PatiencePolicy
from neucodex_lava.exits.place import Placed, PlacePolicy, decide_place, decide_place_stepwise
from neucodex_lava.exits.policy import (
    Action,
    ExitPolicy,
    Exits,
    OfflinePolicy,
    check_t_max,
    decide,
    decide_stepwise,
    predicted,
)
from neucodex_lava.exits.qlearning import QLearningPolicy
from neucodex_lava.exits.table import POLICIES, policy_from_dict, policy_to_dict
from neucodex_lava.exits.topk import TopKPolicy, top_gap

__all__ = [
    "POLICIES",
    "Action",
    "ComposedPolicy",
    "ConfidencePolicy",
    "CurvePoint",
    "EntropyPolicy",
    "ExitPolicy",
    "Exits",
    "FixedPolicy",
    "OfflinePolicy",
    "OraclePolicy",
    "PatiencePolicy",
    "PlacePolicy",
    "Placed",
    "QLearningPolicy",
    "TopKPolicy",
    "calibration_error",
    "check_t_max",
    "curve",
    "decide",
    "decide_stepwise",
    "exit_histogram",
    "max_softmax",
    "normalised_entropy",
    "optimal_cutoff",
    "decide_place",
    "decide_place_stepwise",
    "policy_from_dict",
    "policy_to_dict",
    "predicted",
    "right",
    "top_gap",
]
