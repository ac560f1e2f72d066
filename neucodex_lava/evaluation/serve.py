"""Bundles' cloud tails, ready to be served, and loaded anew while they are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neucodex_lava.bundle import Bundle, load_bundle, load_coding, load_tail, read_manifest
from neucodex_lava.config import parse_split
from neucodex_lava.errors import ConfigError, NeucodexError
from neucodex_lava.evaluation.configurations import base_cut, deployment_id
from neucodex_lava.integer_net import IntegerNet

if TYPE_CHECKING:
    from neucodex_lava.cloud.tail import TorchTail

INPUT_CUT = "input"
"""Name of the cut before the first node: everything runs in the cloud."""

_LOG = logging.getLogger(__name__)


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
    """The tail that ``neucodex serve`` serves, with the bundle's coding tables.

    Raises:
        ConfigError, BundleError: a cut or a bundle that is not possible.
    """
    # Not above: the edge reads `cut_bundle` from here and needs no torch, which takes 2 s to import.
    from neucodex_lava.cloud.tail import TorchTail

    manifest, _ = read_manifest(folder)
    if manifest.kind == "split" and split is None:
        # The cloud machine needs the tail file alone, no HDF5.
        manifest, tail, sha256 = load_tail(folder)
        gain, coding = manifest.gains[tail.nodes[-1].name], load_coding(folder)
        return TorchTail(tail, sha256, gain, device, coding=coding)
    bundle = load_bundle(folder)
    net = cut_bundle(bundle, split)
    model, coding = deployment_id(bundle, net.cut), load_coding(bundle, net.cut)
    return TorchTail(net, model, bundle.readout_gain, device, coding=coding)


class ServedFolders:
    """The bundles of one server, by folder.

    Args:
        folders: of the bundles.
        split: where base bundles among them are cut.
        device: torch device.

    Attributes:
        by_folder: the tail of each folder.

    Raises:
        ConfigError, BundleError: as `open_tail`; no folder.
    """

    def __init__(
        self, folders: Sequence[Path], *, split: str | None = None, device: str = "cpu"
    ) -> None:
        if not folders:
            raise ConfigError("no bundle to serve", "give at least one: neucodex serve BUNDLE")
        self._split, self._device = split, device
        self._alone = len(folders) == 1
        self.by_folder = {folder: self._open(folder) for folder in folders}

    @property
    def tails(self) -> dict[str, TorchTail]:
        """By the bundle's sha256, or the deployment id of a base that is cut."""
        return {tail.model: tail for tail in self.by_folder.values()}

    def reload(self) -> dict[str, TorchTail]:
        """Read the folders again; where one cannot be served, its tail stays and the log says why."""
        for folder in self.by_folder:
            try:
                self.by_folder[folder] = self._open(folder)
            except NeucodexError as error:
                _LOG.error("bundle %s cannot be read, the old one stays: %s", folder, error)
        return self.tails

    def _open(self, folder: Path) -> TorchTail:
        manifest, _ = read_manifest(folder)
        # Of several bundles, --split is for those that have no split point of their own.
        split = self._split if self._alone or manifest.kind == "base" else None
        return open_tail(folder, split=split, device=self._device)
