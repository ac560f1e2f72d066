"""The package's public names are where they say, and importing it loads none of the heavy parts."""

import subprocess
import sys

import pytest

import energy
import host_bridge
import neucodex_lava


@pytest.mark.parametrize("package", [neucodex_lava, host_bridge, energy])
def test_every_public_name_is_there(package) -> None:
    for name in package.__all__:
        assert name.isupper() or getattr(package, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        neucodex_lava.Nothing  # noqa: B018


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, neucodex_lava, host_bridge\n"
        "heavy = {'numpy', 'torch', 'lava', 'numba', 'h5py', 'grpc'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
