"""Write a bundle's folder, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neucodex_lava.bundle.folder import (
    Bundle,
    load_bundle,
    netx_functions,
    read_manifest,
    sha256_of,
)
from neucodex_lava.bundle.golden import Golden, write_golden
from neucodex_lava.bundle.manifest import (
    CODING_FILE,
    EDGE_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    TAIL_FILE,
    Manifest,
    version_for,
)
from neucodex_lava.errors import BundleError, NetError
from neucodex_lava.files import replacing
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.tail_file import write_tail


def write_bundle(
    folder: Path | str,
    net: IntegerNet,
    *,
    golden: Golden,
    extra_files: Mapping[str, bytes] | None = None,
    **manifest: Any,
) -> Bundle:
    """Write a bundle: the whole folder under a temporary name beside `folder`, then renamed.

    An older bundle at `folder` is replaced; until the very end it stays as it is.

    Args:
        folder: where to.
        net: the whole network; for a base cut after its last node (or anywhere: it is stored
            uncut), for a split bundle cut between encoder and decoder.
        golden: record of `net`.
        extra_files: further files by name, such as coding tables.
        manifest: the manifest's fields that the network and the files do not give.

    Returns:
        The bundle as read back from disk.

    Raises:
        BundleError: a field or the golden record does not fit, or `folder` holds something else.
        NetError: a split bundle without a node on both sides of its cut.
    """
    folder = Path(folder)
    kind = manifest.get("kind")
    if kind == "base":
        net = net.with_cut(len(net.nodes))
    elif not 0 < net.cut < len(net.nodes):
        raise NetError(
            f"a split bundle cannot be cut at {net.cut}: it needs nodes before and after its cut",
            f"cuts 1 to {len(net.nodes) - 1} have both",
        )
    _refuse_to_replace_other_things(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _fill(temporary, net, golden, extra_files or {}, manifest)
        written = load_bundle(temporary)
        if written.net != net or written.golden != golden:
            raise BundleError(f"{folder}: what was written does not read back the same")
        _swap(temporary, folder)
    except OSError as problem:
        raise BundleError(f"{folder}: cannot be written ({problem})") from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return replace(written, path=folder)


def amend(bundle: Bundle, **papers: dict[str, Any]) -> Bundle:
    """Put papers into a bundle's manifest; nothing that it runs by changes, nor what it is known by.

    A bundle of format 1 becomes one of format 2; split bundles that name it still find it.

    Args:
        bundle: to amend, on disk as it was read.
        papers: ``training``, ``measured`` or ``exits``, whole; or ``files``.

    Raises:
        BundleError: not what they should be, or the manifest cannot be written.
    """
    files = papers.get("files", bundle.manifest.files)
    manifest = replace(bundle.manifest, **papers, format_version=version_for(files))
    try:
        with replacing(bundle.path / MANIFEST_FILE) as file:
            file.write(manifest.to_json())
    except OSError as problem:
        raise BundleError(
            f"{bundle.path}: the manifest cannot be written ({problem.strerror or problem})"
        ) from problem
    manifest, sha256 = read_manifest(bundle.path)
    return replace(bundle, manifest=manifest, sha256=sha256)


def put_coding(bundle: Bundle, coding: bytes) -> Bundle:
    """Put coding tables into a bundle in place of what it had; it stays what it is known by.

    Args:
        bundle: on disk as it was read.
        coding: the file's bytes, from `coding_bytes`.

    Raises:
        BundleError: it cannot be written.
    """
    sha256 = hashlib.sha256(coding).hexdigest()
    files = bundle.manifest.files
    if files.get(CODING_FILE) == sha256:
        return bundle
    if CODING_FILE in files:
        # Whoever reads in between finds a bundle without tables rather than with changed ones.
        without = {name: sha for name, sha in files.items() if name != CODING_FILE}
        bundle = amend(bundle, files=without)
    try:
        with replacing(bundle.path / CODING_FILE) as file:
            file.write(coding)
    except OSError as problem:
        raise BundleError(
            f"{bundle.path}: {CODING_FILE} cannot be written ({problem.strerror or problem})"
        ) from problem
    return amend(bundle, files=bundle.manifest.files | {CODING_FILE: sha256})


def _fill(
    folder: Path,
    net: IntegerNet,
    golden: Golden,
    extra_files: Mapping[str, bytes],
    manifest: Mapping[str, Any],
) -> None:
    write_netx, _ = netx_functions()
    write_netx(net, folder / EDGE_FILE)
    if net.cut < len(net.nodes):
        write_tail(net, folder / TAIL_FILE)
    write_golden(golden, net, folder / GOLDEN_FILE)
    for name, content in extra_files.items():
        if Path(name).name != name or (folder / name).exists():
            raise BundleError(f"'{name}' cannot be a further file of a bundle")
        (folder / name).write_bytes(content)
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    from_net: dict[str, Any] = {
        "cut": net.cut,
        "t_max": net.timesteps,
        "input_shape": net.input_shape,
        "input_bits": net.input_bits,
        "code_shape": net.code_shape,
        "classes": net.nodes[-1].size,
        "files": files,
        "format_version": version_for(files),
    }
    try:
        made = Manifest(**manifest, **from_net)
    except TypeError as problem:
        raise BundleError(f"manifest: {problem}") from problem
    made.check_net(net, "manifest")
    (folder / MANIFEST_FILE).write_bytes(made.to_json())


def _refuse_to_replace_other_things(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST_FILE).is_file()):
        raise BundleError(
            f"'{folder}' exists and is no bundle, so it is not replaced", "choose another folder"
        )


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; the old one comes back if that fails."""
    if not folder.exists():
        new.rename(folder)
        return
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old.tmp")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
