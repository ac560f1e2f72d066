"""A bundle's cloud tail, ready to be served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neucodex_lava.bundle import Bundle, load_bundle, load_tail, read_manifest
from neucodex_lava.config import parse_split
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.configurations import base_cut, deployment_id
from neucodex_lava.integer_net import IntegerNet

if TYPE_CHECKING:
    from neucodex_lava.cloud.tail import TorchTail

INPUT_CUT = "input"
"""Name of the cut before the first node: everything runs in the cloud."""


def cut_bundle(bundle: Bundle, split: str | None) -> IntegerNet:
    """The bundle's net, cut where asked.

    Args:
        bundle: base or split.
        split: ``SP1`` ... or ``input`` for a base; None or its own split point for a split bundle.

    Raises:
        ConfigError: a cut this bundle does not have.
    """
    if bundle.manifest.kind == "split":
        own = bundle.manifest.split
        if split is not None and f"SP{parse_split(split)}" != own:
            raise ConfigError(
                f"bundle '{bundle.path}' is cut at {own}, not at {split}",
                "leave --split out, or use its base bundle",
            )
        return bundle.net
    if split is None:
        points = ", ".join(bundle.manifest.split_points)
        raise ConfigError(
            f"bundle '{bundle.path}' is a base bundle and may be cut anywhere",
            f"pass --split with one of {points} or {INPUT_CUT}",
        )
    if split == INPUT_CUT:
        return bundle.net.with_cut(0)
    return bundle.net.with_cut(base_cut(bundle, f"SP{parse_split(split)}"))


def open_tail(folder: Path, *, split: str | None = None, device: str = "cpu") -> TorchTail:
    """The tail that ``neucodex serve`` serves.

    Raises:
        ConfigError, BundleError: a cut or a bundle that is not possible.
    """
    # Not above: the edge reads `cut_bundle` from here and needs no torch, which takes 2 s to import.
    from neucodex_lava.cloud.tail import TorchTail

    manifest, _ = read_manifest(folder)
    if manifest.kind == "split" and split is None:
        # The cloud machine needs the tail file alone, no HDF5.
        manifest, tail, sha256 = load_tail(folder)
        return TorchTail(tail, sha256, manifest.gains[tail.nodes[-1].name], device)
    bundle = load_bundle(folder)
    net = cut_bundle(bundle, split)
    return TorchTail(net, deployment_id(bundle, net.cut), bundle.readout_gain, device)
