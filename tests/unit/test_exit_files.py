"""Exit heads, soft resets and initial potentials in files; files without them stay as they were."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from exit_nets import exit_net
from plain import load_join_net
from safetensors import safe_open

from neucodex_lava.edge.netx import read_netx, write_netx
from neucodex_lava.errors import FormatError, NetError
from neucodex_lava.integer_net import IntegerNet, Neuron, Node
from neucodex_lava.tail_file import read_tail, write_tail

FINGERPRINT = "75399dab7a0d62cd9adabd2dc1e13324881144599f67821ad582c174dc6b3f98"


def plain(net: IntegerNet) -> IntegerNet:
    """The net with neurons that stock Lava has."""
    return net.with_nodes(
        *(replace(n, neuron=replace(n.neuron, reset="zero", initial=0)) for n in net.nodes)
    )


def version(path: Path) -> int:
    text = h5py.File(path)["neucodex/structure"][()].tobytes()
    return int(text.split(b'"version": ')[1].split(b",")[0].split(b"\n")[0].strip(b" }"))


@pytest.mark.parametrize("cut", [1, 2, 4, 5, 6, 7])
@pytest.mark.parametrize("stock", [False, True])
def test_edge_and_tail_are_read_as_they_were_written(tmp_path: Path, cut: int, stock: bool) -> None:
    net, _ = exit_net(1)
    net = (plain(net) if stock else net).with_cut(cut)
    write_netx(net, tmp_path / "edge.net")
    edge = read_netx(tmp_path / "edge.net")
    assert edge == net.edge_part()
    assert edge.output == net.output
    assert version(tmp_path / "edge.net") == (2 if stock and cut in (1, 4, 6, 7) else 3)
    if cut == 7:
        return
    write_tail(net, tmp_path / "tail.safetensors")
    tail = read_tail(tmp_path / "tail.safetensors")
    assert tail.joined(edge) == net
    heads = [head.name for head in tail.standalone().exit_heads]
    assert heads == [h.name for h in net.exit_heads if h in net.tail_nodes]
    with safe_open(tmp_path / "tail.safetensors", "numpy") as file:
        written = json.loads(file.metadata()["neucodex"])["version"]
    # Behind the last cut there is a readout only.
    assert written == (1 if stock or cut == 6 else 2)


def test_a_tail_joins_only_where_it_was_cut(tmp_path: Path) -> None:
    net, _ = exit_net(0)
    write_tail(net.with_cut(4), tmp_path / "tail")
    tail = read_tail(tmp_path / "tail")
    with pytest.raises(NetError, match="the edge ends in"):
        tail.joined(net.with_cut(2).edge_part())
    # An exit head between them may lie on either side: the code is the same.
    assert tail.source == net.with_cut(5).output


def chain(neuron: Neuron) -> IntegerNet:
    net, _, _ = load_join_net(1)
    return net.with_nodes(replace(net.node("stem"), neuron=neuron))


def stock_reads(path: Path) -> object:
    with contextlib.redirect_stdout(io.StringIO()):
        from lava.lib.dl.netx import hdf5

        return hdf5.Network(net_config=str(path), input_shape=(4, 4, 1))


@pytest.mark.parametrize(
    "neuron", [Neuron(threshold=150, reset="subtract"), Neuron(threshold=150, initial=-75)]
)
def test_lava_dl_refuses_what_it_would_misread(tmp_path: Path, neuron: Neuron) -> None:
    path = tmp_path / "edge.net"
    write_netx(chain(Neuron(threshold=150)), path)
    stock_reads(path)
    assert version(path) == 1
    write_netx(chain(neuron), path)
    with pytest.raises(NotImplementedError):
        stock_reads(path)
    assert read_netx(path).node("stem").neuron == neuron


def test_lava_dl_refuses_an_exit_head_behind_the_output(tmp_path: Path) -> None:
    net, _ = exit_net(0)
    write_netx(plain(net).with_cut(2), tmp_path / "edge.net")
    with pytest.raises(NotImplementedError):
        stock_reads(tmp_path / "edge.net")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"reset": "subtract"', b'"reset": "subtracT"', "unknown reset 'subtracT'"),
        (b'"reset": "subtract"', b'"reset":          7', "'reset' is 7, it must be a string"),
        (b'"initial": 70,', b'"initial": 9e1,', "'initial' is 90.0, it must be an integer"),
        (b'"initial": 70,', b'"initial": 999,', "initial potential 999 is outside"),
        (b'"end": "stem"', b'"end": "stam"', "end 'stam' is none of its nodes"),
    ],
)
def test_damage_is_named(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    net, _ = exit_net(0)
    soft = replace(net.node("stem"), neuron=Neuron(threshold=150, reset="subtract", initial=70))
    path = tmp_path / "edge.net"
    write_netx(net.with_nodes(soft).with_cut(2), path)
    with h5py.File(path, "r+") as file:
        text = file["neucodex/structure"][()].tobytes()
        assert old in text, text
        del file["neucodex/structure"]
        file["neucodex/structure"] = np.bytes_(text.replace(old, new))
    with pytest.raises((FormatError, NetError), match=message):
        read_netx(path)


def test_neurons_that_are_refused() -> None:
    net, _ = exit_net(0)

    def with_neuron(name: str, neuron: Neuron) -> Node:
        return net.with_nodes(replace(net.node(name), neuron=neuron)).node(name)

    with pytest.raises(NetError, match="reset 'soft' is not one of zero, subtract"):
        with_neuron("stem", Neuron(reset="soft"))  # type: ignore[arg-type]
    with pytest.raises(NetError, match=r"initial potential -129 is outside the threshold's \+-128"):
        with_neuron("stem", Neuron(initial=-129))
    readout = net.last.neuron
    for wrong in (replace(readout, reset="subtract"), replace(readout, initial=1)):
        with pytest.raises(NetError, match="'exit_sp1': a readout has neither"):
            with_neuron("exit_sp1", wrong)


def test_defaults_leave_names_and_fingerprints_alone() -> None:
    assert repr(Neuron()) == "Neuron(current_decay=4096, voltage_decay=2048, threshold=128)"
    soft = Neuron(reset="subtract", initial=64)
    assert eval(repr(soft)) == soft
    net, _, _ = load_join_net()
    stem = net.node("stem")
    # As a release before resets wrote it.
    assert stem.fingerprint() == FINGERPRINT
    assert replace(stem, neuron=replace(stem.neuron, initial=1)).fingerprint() != FINGERPRINT
