"""Read a bundle's folder, every file checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neucodex_lava.bundle.golden import Golden, read_golden
from neucodex_lava.bundle.manifest import (
    EDGE_FILE,
    GOLDEN_FILE,
    LIMIT_BYTES,
    MANIFEST_FILE,
    TAIL_FILE,
    Manifest,
)
from neucodex_lava.errors import BundleError, MissingDependencyError
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.tail_file import read_tail

SIBLINGS_LIMIT = 1000


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle read from disk, every file checked against its sha256.

    Attributes:
        path: its folder.
        manifest: what it is.
        net: the whole network, with its cut.
        sha256: what the bundle is known by (`Manifest.identity`; in format 1 that of manifest.json).
    """

    path: Path
    manifest: Manifest
    net: IntegerNet
    sha256: str

    @cached_property
    def golden(self) -> Golden:
        """The golden record, read when first asked for.

        Raises:
            BundleError: when the file is damaged or not a record of this network.
        """
        return read_golden(self.path / GOLDEN_FILE, self.net)

    @property
    def readout_gain(self) -> float:
        """The readout's gain: logits are S_t / (gain * t).

        Raises:
            BundleError: when the manifest names none for the last node.
        """
        name = self.net.nodes[-1].name
        if name not in self.manifest.gains:
            raise BundleError(f"{self.path}: no gain for the readout '{name}' in the manifest")
        return self.manifest.gains[name]

    def answers_to(self, sha256: str) -> bool:
        """Whether a split bundle that names this sha256 means this base."""
        return sha256 == self.sha256 or _answers_to(self.manifest, sha256)

    def cut_at(self, split: str) -> IntegerNet:
        """A base network cut at a split point such as ``SP3``.

        Raises:
            BundleError: when the bundle has no such split point.
        """
        points = self.manifest.split_points
        if split not in points:
            known = ", ".join(points) or "none"
            raise BundleError(f"{self.path}: no split point '{split[:40]}'", f"known: {known}")
        return self.net.with_cut(points[split])


def load_bundle(folder: Path | str) -> Bundle:
    """Read a bundle and check every file.

    Raises:
        BundleError: no such folder, a file that is missing or changed, a newer format version, a
            manifest that does not fit the network.
        FormatError, NetError: a file whose sha256 is right, but not what it should be.
    """
    folder = Path(folder)
    manifest, sha256 = read_manifest(folder)
    for name in manifest.files:
        check_file(folder, manifest, name)
    _, read_netx = netx_functions()
    net = read_netx(folder / EDGE_FILE)
    if manifest.kind == "split":
        if len(net.nodes) != manifest.cut:
            raise BundleError(
                f"{folder}: manifest says cut {manifest.cut}, {EDGE_FILE} has {len(net.nodes)} nodes"
            )
        net = read_tail(folder / TAIL_FILE).joined(net)
    manifest.check_net(net, str(folder))
    return Bundle(folder, manifest, net, sha256)


def load_tail(folder: Path | str) -> tuple[Manifest, IntegerNet, str]:
    """The cloud's part of a split bundle, from ``manifest.json`` and ``tail.safetensors`` alone.

    Needs numpy and safetensors only.

    Returns:
        The manifest; the tail as a network of its own whose input is the code, cut at 0; the
        bundle's sha256.

    Raises:
        BundleError: as `load_bundle`; also for a base bundle, which has no tail file.
    """
    folder = Path(folder)
    manifest, sha256 = read_manifest(folder)
    if manifest.kind != "split":
        raise BundleError(
            f"'{folder}' is a base bundle, stored uncut: it has no tail file",
            "load the whole bundle and cut it",
        )
    check_file(folder, manifest, TAIL_FILE)
    net = read_tail(folder / TAIL_FILE).standalone()
    for name, found in (
        ("t_max", net.timesteps),
        ("code_shape", net.input_shape),
        ("classes", net.nodes[-1].size),
    ):
        if getattr(manifest, name) != found:
            said = getattr(manifest, name)
            raise BundleError(f"{folder}: manifest says {name} {said}, {TAIL_FILE} has {found}")
    return manifest, net, sha256


def find_base(bundle: Bundle, base: Path | str | None = None) -> Bundle:
    """The base of a split bundle, by sha256: `base`, or a folder beside the bundle's own.

    A base bundle is its own base.

    Raises:
        BundleError: not found, or `base` is another bundle.
    """
    wanted = bundle.manifest.base
    if wanted is None:
        return bundle
    if base is not None:
        found = load_bundle(base)
        if not found.answers_to(wanted):
            raise BundleError(
                f"'{base}' (sha256 {found.sha256[:12]}) is not the base of '{bundle.path}',"
                f" which names sha256 {wanted[:12]}",
                "pass the base it was trained from with --base",
            )
        return found
    beside = bundle.path.resolve().parent
    for path in sorted(beside.iterdir())[:SIBLINGS_LIMIT]:
        if path.name.startswith(".") or not (path / MANIFEST_FILE).is_file():
            continue
        try:
            manifest, sha256 = read_manifest(path)
        except BundleError:
            continue  # whatever it is, it cannot be the base
        if manifest.kind == "base" and (sha256 == wanted or _answers_to(manifest, wanted)):
            return load_bundle(path)
    raise BundleError(
        f"the base of '{bundle.path}' (sha256 {wanted[:12]}) is not beside it in '{beside}'",
        "pass its folder with --base",
    )


def _answers_to(manifest: Manifest, sha256: str) -> bool:
    return sha256 in (manifest.identity(), manifest.identity_in_format_1())


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest of a bundle, checked, and the bundle's sha256; no other file is looked at.

    Raises:
        BundleError: no folder, no manifest in it, or a damaged one.
    """
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise BundleError(f"'{folder}' is no folder", "pass the folder of an exported bundle")
    try:
        size = path.stat().st_size
        if size > LIMIT_BYTES:
            raise BundleError(f"{path}: {size} bytes, the limit is {LIMIT_BYTES}")
        content = path.read_bytes()
    except FileNotFoundError as problem:
        raise BundleError(
            f"'{folder}' holds no {MANIFEST_FILE}, so it is no bundle",
            "pass the folder of an exported bundle",
        ) from problem
    except OSError as problem:
        raise BundleError(f"{path}: {problem.strerror or problem}") from problem
    manifest = Manifest.from_json(content, str(path))
    if manifest.format_version == 1:
        return manifest, hashlib.sha256(content).hexdigest()
    return manifest, manifest.identity()


def check_file(folder: Path, manifest: Manifest, name: str) -> None:
    """Raise BundleError unless a listed file is there and as the manifest says."""
    path, expected = folder / name, manifest.files[name]
    hint = "export the bundle again, or copy the whole folder"
    if not path.is_file():
        raise BundleError(f"'{folder}': {name} is missing", hint)
    try:
        found = sha256_of(path)
    except OSError as problem:
        raise BundleError(f"{path}: {problem.strerror or problem}") from problem
    if found != expected:
        raise BundleError(
            f"'{folder}': {name} was changed: sha256 {found[:12]}, the manifest says"
            f" {expected[:12]}",
            hint,
        )


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def netx_functions() -> Any:
    """(write_netx, read_netx): h5py is only needed by those who touch edge.net."""
    try:
        from neucodex_lava.edge.netx import read_netx, write_netx
    except ImportError as problem:
        raise MissingDependencyError(
            f"{EDGE_FILE} needs a package that is not installed ({problem.name})",
            "pip install 'neucodex-lava[edge]', or [cloud]",
        ) from problem
    return write_netx, read_netx
