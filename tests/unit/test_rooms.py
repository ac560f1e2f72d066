"""What a room pulls in when it is imported, third parties' own imports included.

import-linter reads our sources only, and sees `lava` as one whole: that importing the edge wing brings
no torch along, by way of lava-dl for one, shows only in a fresh interpreter.
"""

import pkgutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
import importlib, sys
for name in sys.argv[2].split(","):
    importlib.import_module(name)
print(*sorted(set(sys.argv[1].split(",")) & set(sys.modules)))
"""


def modules_of(room: str) -> list[str]:
    spec = find_spec(room)
    assert spec is not None, room
    names = [room]
    if spec.submodule_search_locations:
        walk = pkgutil.walk_packages(spec.submodule_search_locations, f"{room}.")
        names += [module.name for module in walk]
    return names


@pytest.mark.parametrize(
    ("room", "foreign"),
    [
        ("energy", "torch,lava,h5py,numba,grpc,matplotlib"),
        ("host_bridge", "torch,lava,h5py,numba,matplotlib"),
        ("neucodex_lava.errors", "numpy,torch,lava,rich,tyro,grpc"),
        ("neucodex_lava.integer_net", "torch,lava,h5py,numba,grpc,matplotlib"),
        ("neucodex_lava.exits", "torch,lava"),
        ("neucodex_lava.report", "torch,lava"),
        ("neucodex_lava.doctor", "numpy,torch,lava,rich,matplotlib"),
        ("neucodex_lava.edge", "torch,torchvision,lava.lib.dl"),
        ("neucodex_lava.cloud", "lava,numba,torchvision"),
    ],
)
def test_a_room_pulls_in_nothing_foreign(room: str, foreign: str) -> None:
    command = [sys.executable, "-c", SCRIPT, foreign, ",".join(modules_of(room))]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == ""
