"""Configurations: which network is cut where, and whether timesteps are fixed or dynamic.

F-B, D-B   fixed or dynamic timesteps, no bottleneck: the base cut at a split point
F+B, D+B   the same with the bottleneck: a split bundle
edge-only  the base on the edge as a whole, fixed or dynamic
cloud-only the encoded input is sent, everything runs in the cloud
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from neucodex_lava.bundle import Bundle
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import IntegerNet

EDGE_ONLY, EDGE_ONLY_DYNAMIC, CLOUD_ONLY = "edge-only", "edge-only dynamic", "cloud-only"


def deployment_id(bundle: Bundle, cut: int) -> str:
    """What edge and cloud agree on when a session opens, 64 hex digits.

    A bundle's own sha256; for a bundle cut elsewhere than its manifest says (a base at a split
    point) the sha256 of both, so that two cuts of one network are never mistaken for each other.
    """
    if cut == bundle.manifest.cut:
        return bundle.sha256
    return hashlib.sha256(f"{bundle.sha256}:{cut}".encode()).hexdigest()


@dataclass(frozen=True)
class Configuration:
    """One row of an evaluation.

    Attributes:
        name: ``F-B``, ``D+B``, ``edge-only``, ...
        split: ``SP1`` ..., None for edge-only and cloud-only.
        bundle: where the network comes from.
        net: the network, cut as this configuration needs it.
        dynamic: whether the exit policy may stop early.
        policy: name of the exit policy of a dynamic configuration.
    """

    name: str
    split: str | None
    bundle: Bundle
    net: IntegerNet
    dynamic: bool
    policy: str = ""

    @property
    def title(self) -> str:
        """Split point, name and policy, as far as it has them."""
        return " ".join(part for part in (self.split, self.name, self.policy) if part)

    @property
    def has_edge(self) -> bool:
        """Whether anything runs on the edge chip."""
        return self.net.cut > 0

    @property
    def has_link(self) -> bool:
        """Whether anything runs in the cloud."""
        return self.net.cut < len(self.net.nodes)

    @property
    def model_id(self) -> str:
        """What its edge and cloud agree on."""
        return deployment_id(self.bundle, self.net.cut)


def base_configurations(base: Bundle) -> list[Configuration]:
    """Edge-only fixed and dynamic, and cloud-only."""
    whole = base.net.with_cut(len(base.net.nodes))
    return [
        Configuration(EDGE_ONLY, None, base, whole, dynamic=False),
        Configuration(EDGE_ONLY_DYNAMIC, None, base, whole, dynamic=True),
        Configuration(CLOUD_ONLY, None, base, base.net.with_cut(0), dynamic=False),
    ]


def split_configurations(
    base: Bundle, split: str, with_bottleneck: Bundle | None
) -> list[Configuration]:
    """F-B and D-B at a split point, and F+B and D+B where there is a bundle for it.

    Raises:
        ConfigError: the base has no such split point.
    """
    cut = base_cut(base, split)
    found: list[Configuration] = []
    for letter, dynamic in (("F", False), ("D", True)):
        found.append(Configuration(f"{letter}-B", split, base, base.net.with_cut(cut), dynamic))
    if with_bottleneck is not None:
        for letter, dynamic in (("F", False), ("D", True)):
            net = with_bottleneck.net
            found.append(Configuration(f"{letter}+B", split, with_bottleneck, net, dynamic))
    return found


def with_policies(
    configurations: Iterable[Configuration], names: Sequence[str]
) -> list[Configuration]:
    """The same, dynamic ones once for each exit policy."""
    found: list[Configuration] = []
    for c in configurations:
        found += [replace(c, policy=name) for name in names] if c.dynamic else [c]
    return found


def base_cut(base: Bundle, split: str) -> int:
    """The cut of a split point of a base bundle.

    Raises:
        ConfigError: it has no such split point.
    """
    points = base.manifest.split_points
    if split not in points:
        raise ConfigError(
            f"bundle '{base.path}' has no split point {split}",
            f"choose one of {', '.join(points) or 'none'}",
        )
    return points[split]


def plan(base: Bundle, splits: Sequence[str], bundles: Iterable[Bundle]) -> list[Configuration]:
    """All configurations of a base and its split bundles, in the order they are shown.

    Args:
        base: the base bundle.
        splits: split points to evaluate.
        bundles: split bundles, at most one for each split point.

    Raises:
        ConfigError: two bundles of one split point, or a split point the base does not have.
    """
    by_split: dict[str | None, Bundle] = {}
    for bundle in bundles:
        other = by_split.setdefault(bundle.manifest.split, bundle)
        if other is not bundle:
            raise ConfigError(
                f"'{other.path}' and '{bundle.path}' are both bundles of {bundle.manifest.split}",
                "evaluate them one at a time",
            )
    found = base_configurations(base)
    for split in splits:
        found += split_configurations(base, split, by_split.get(split))
    return found
