"""Where to answer: the exit head before a cut, or the cloud behind it (`exits.place`).

A bundle's manifest keeps, for each cut with an exit head before it, what calibration data say of both
readouts (`PlaceModel`) as ``place-sp2`` and the like; tables for the link as it is today are made from
that when it is used, and others for a link that is down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from energy import Ledger
from neucodex_lava.bundle import Bundle
from neucodex_lava.config import from_dict
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.configurations import Configuration, base_cut
from neucodex_lava.evaluation.policies import PLACE
from neucodex_lava.exits.calibration.place import Link, PlaceModel, Prices
from neucodex_lava.exits.place import PlacePolicy
from neucodex_lava.integer_net import IntegerNet

if TYPE_CHECKING:
    from neucodex_lava.cloud.twin import TwinResult

DOWN = Link(up=False)
AGAIN = "calibrate it again: neucodex calibrate BUNDLE"
MESSAGE_S, BITS_PER_S = 0.01, 18.9e6
"""Of a message there and back, assumed; and NeuCODEX's wireless uplink (arXiv 2509.19156)."""
PER_J, PER_S = 1000.0, 1.0
"""A point of accuracy for 10 uJ, and for 10 ms: a choice, no fact."""


@dataclass(frozen=True)
class LinkPrices:
    """What the link costs, and what accuracy is given up for that.

    Attributes:
        link: seconds and joules.
        prices: accuracy for a joule and for a second.
    """

    link: Link = field(default_factory=lambda: Link(message_s=MESSAGE_S, bit_s=1 / BITS_PER_S))
    prices: Prices = field(default_factory=lambda: Prices(per_j=PER_J, per_s=PER_S))


@dataclass(frozen=True, eq=False)
class Site:
    """A cut of a bundle's network that has an exit head before it and something behind it.

    Attributes:
        bundle, split: which.
        net: cut there.
        head: name of the last exit head before the cut.
    """

    bundle: Bundle
    split: str
    net: IntegerNet
    head: str

    @property
    def name(self) -> str:
        """Under which the manifest keeps its model."""
        return PLACE + self.split.lower()

    @property
    def gains(self) -> tuple[float, float]:
        """Of the exit head, and of the cloud's readout."""
        return self.bundle.manifest.gains[self.head], self.bundle.readout_gain

    @property
    def configuration(self) -> Configuration:
        """For tables: P-B, or with a bottleneck P+B."""
        name = "P+B" if self.bundle.manifest.kind == "split" else "P-B"
        return Configuration(name, self.split, self.bundle, self.net, dynamic=True, policy="place")

    def sums(self, result: TwinResult) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """L_t and S_t of whole runs, (N, K, T) both."""
        assert result.sums is not None, "a bundle's network ends in a readout"
        return result.exit_sums[self.head], result.sums

    def edge(self, ledger: Ledger) -> Ledger:
        """What the nodes before the cut did."""
        return ledger.select([node.name for node in self.net.edge_nodes])


def sites(bundle: Bundle) -> list[Site]:
    """Every cut of a bundle at which the edge can answer by itself; none without exit heads."""
    manifest, found = bundle.manifest, list[Site]()
    if not bundle.net.exit_heads:
        return found
    splits = [manifest.split] if manifest.split else list(manifest.split_points)
    for split in splits:
        net = bundle.net
        if manifest.kind == "base":
            net = net.with_cut(base_cut(bundle, split))
        heads = [head.name for head in net.exit_heads if head in net.edge_nodes]
        if heads and net.tail_nodes:
            found.append(Site(bundle, split, net, heads[-1]))
    return found


def no_site(folder: Path, cut: str = "this cut") -> ConfigError:
    """What to say where a choice is asked for that is not there."""
    return ConfigError(
        f"bundle '{folder}' has no exit head before {cut} to answer on the edge",
        "train with --exit-heads, or cut it further back",
    )


@dataclass(frozen=True, eq=False)
class Placement:
    """A site with the tables for a link.

    Attributes:
        site: where.
        policy: for the link as it is.
        down: for a link that is down.
        calibration: how the model was found.
    """

    site: Site
    policy: PlacePolicy
    down: PlacePolicy
    calibration: Mapping[str, Any]


def placement(site: Site, costs: LinkPrices) -> Placement | None:
    """The best tables for a link, from the model in the manifest; None where there is none.

    Raises:
        ConfigError: the model is for another T_max, or damaged.
    """
    entry = site.bundle.manifest.exits.get(site.name)
    if entry is None:
        return None
    try:
        model = from_dict(PlaceModel, entry["policy"]["model"])
    except ConfigError as problem:
        raise ConfigError(
            f"'{site.name}' of bundle '{site.bundle.path}' cannot be read: {problem.message}", AGAIN
        ) from problem
    if model.t_max != site.net.timesteps or (model.local_gain, model.cloud_gain) != site.gains:
        raise ConfigError(
            f"'{site.name}' was calibrated for another network than bundle '{site.bundle.path}'",
            AGAIN,
        )
    up, down = (model.solve(link, costs.prices).policy for link in (costs.link, DOWN))
    return Placement(site, up, down, entry["calibration"])
