"""Versions of what a result depends on."""

from __future__ import annotations

import platform
from importlib import metadata

from neucodex_lava import __version__

PACKAGES = ("lava-nc", "lava-dl", "torch", "numpy", "numba", "grpcio", "h5py")


def versions() -> dict[str, str]:
    """neucodex-lava's own version, Python's, and those of the installed packages it rests on."""
    found = {"neucodex-lava": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
