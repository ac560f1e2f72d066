"""A golden record's exit heads: their sums and gains are written, read, checked and compared."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exit_nets import exit_net

from neucodex_lava.bundle import Golden, digest_potentials
from neucodex_lava.bundle.golden import read_golden, write_golden
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import BundleError
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.verify import Seen, changed_integers, compare


def golden_of(net: IntegerNet, inputs: np.ndarray) -> tuple[Golden, Seen]:
    """What the executor gives, as a record and as what a backend showed."""
    twin = run_twin(Executor(net), inputs, record=True)
    assert twin.spikes is not None
    assert twin.potentials is not None
    assert twin.sums is not None
    golden = Golden(
        inputs,
        twin.spikes,
        twin.sums,
        twin.ledger,
        {name: digest_potentials(v) for name, v in twin.potentials.items()},
        {node.name: node.fingerprint() for node in net.nodes},
        2.5,
        twin.exit_sums,
        {"exit_sp1": 3.5, "exit_sp2": 4.5},
    )
    names = [node.name for node in net.nodes]
    seen = Seen(names, twin.spikes, twin.sums, twin.ledger, twin.potentials, twin.exit_sums)
    return golden, seen


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    net, inputs = exit_net(1)
    golden, _ = golden_of(net, inputs)
    write_golden(golden, net, tmp_path / "golden.npz")
    found = read_golden(tmp_path / "golden.npz", net)
    assert found == golden
    assert found.exit_gains == {"exit_sp1": 3.5, "exit_sp2": 4.5}
    assert found != replace(golden, exit_gains={"exit_sp1": 3.5, "exit_sp2": 4.0})
    sums = {name: s + 1 for name, s in golden.exit_sums.items()}
    assert found != replace(golden, exit_sums=sums)


def test_a_record_without_exit_heads_is_written_as_ever(tmp_path: Path) -> None:
    net, inputs = exit_net(0)
    bare = net.with_cut(1).edge_part()
    golden, _ = golden_of(net, inputs)
    path = tmp_path / "golden.npz"
    write_golden(golden, net, path)
    assert {"exit_sums_1.npy", "exit_sums_4.npy"} <= set(zipfile.ZipFile(path).namelist())
    twin = run_twin(Executor(bare), inputs, record=True)
    assert twin.spikes is not None
    none = np.zeros((3, bare.nodes[0].size, 4), np.int64)
    digests = {"stem": golden.potentials["stem"]}
    integers = {"stem": golden.integers["stem"]}
    write_golden(Golden(inputs, twin.spikes, none, twin.ledger, digests, integers, 1.0), bare, path)
    archive = zipfile.ZipFile(path)
    assert not [name for name in archive.namelist() if "exit" in name]
    assert "exit" not in np.load(path)["meta"].tobytes().decode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exit_sums": {}}, r"sums of exit heads \[\], the network has \['exit_sp1', 'exit_sp2'\]"),
        ({"exit_gains": {"exit_sp1": 1.0, "exit_sp2": -1.0}}, "gain -1.0 is no positive number"),
        ({"exit_gains": {"exit_sp1": 1.0}}, r"gains of exit heads \['exit_sp1'\]"),
    ],
)
def test_a_record_that_does_not_fit(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    net, inputs = exit_net(0)
    golden, _ = golden_of(net, inputs)
    with pytest.raises(BundleError, match=message):
        write_golden(replace(golden, **changes), net, tmp_path / "golden.npz")


def test_damage_in_a_file_is_named(tmp_path: Path) -> None:
    net, inputs = exit_net(0)
    golden, _ = golden_of(net, inputs)
    path = tmp_path / "golden.npz"
    write_golden(golden, net, path)
    members = dict(np.load(path))
    del members["exit_sums_4"]
    np.savez(path, **members)
    with pytest.raises(BundleError, match="exit_sums_4"):
        read_golden(path, net)
    write_golden(golden, net, path)
    members = dict(np.load(path))
    meta = json.loads(members["meta"].tobytes())
    meta["exit_gains"]["exit_sp3"] = 1.0
    members["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(path, **members)
    with pytest.raises(BundleError, match="exit_sp3"):
        read_golden(path, net)


def test_an_exit_heads_sum_that_differs_is_found() -> None:
    net, inputs = exit_net(0)
    golden, seen = golden_of(net, inputs)
    assert compare("twin", None, golden, seen).first_difference is None
    sums = {name: array.copy() for name, array in seen.exit_sums.items()}
    sums["exit_sp2"][1, 3, 2] += 1
    check = compare("twin", None, golden, replace(seen, exit_sums=sums))
    found = check.first_difference
    assert found is not None
    assert (found.layer, found.sample, found.timestep) == ("exit_sp2", 1, 3)
    assert (found.neuron, found.quantity) == ((3, 0, 0), "running sum")
    assert found.found == found.expected + 1
    assert check.spike_differences == 1
    assert check.spikes_compared == sum(n.size for n in net.nodes) * 12 + 3 * 5 * 12


def test_an_exit_heads_gain_that_differs_is_found() -> None:
    net, inputs = exit_net(0)
    golden, _ = golden_of(net, inputs)
    gains = {"readout": 2.5, "exit_sp1": 3.5, "exit_sp2": 4.5}

    def changed(gains: dict[str, float]) -> list[str]:
        manifest = SimpleNamespace(gains=gains)
        bundle: Any = SimpleNamespace(golden=golden, net=net, manifest=manifest)
        return changed_integers(bundle)[0]

    assert changed(gains) == []
    assert changed(gains | {"exit_sp2": 4.0}) == ["exit_sp2"]
    assert changed(gains | {"readout": 2.0}) == ["readout"]
