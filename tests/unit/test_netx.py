"""NetX files: our own come back equal, lava-dl's chains are read, everything else is one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from plain import load_join_net

from neucodex_lava.edge.netx import read_netx, write_netx
from neucodex_lava.edge.netx import writer as netx_writer
from neucodex_lava.errors import FormatError, NetError, NeucodexError
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node

LIF = Neuron(threshold=70)


def random_net(seed: int) -> IntegerNet:
    """Joins of up to three connections, every kind, exponents, groups, graded input, bounds."""
    rng = np.random.default_rng(seed)

    def even(shape: tuple[int, ...]) -> np.ndarray:
        return 2 * rng.integers(-128, 128, shape, dtype=np.int16)

    shape = (4, 5, 3)
    shapes = {"input": shape}
    nodes: list[Node] = []
    for i in range(rng.integers(1, 5)):
        links = []
        for _ in range(rng.integers(1, 4)):
            source = str(rng.choice([name for name, s in shapes.items() if s == shape]))
            kind = rng.choice(["conv", "conv_transpose", "dense", "identity"])
            exponent = int(rng.integers(0, 4))
            if kind == "identity":
                link = Connection(source, "identity", even(()), exponent)
            elif kind == "dense":
                link = Connection(source, "dense", even((60, 60)), exponent)
            else:
                groups = int(rng.choice([1, 2, 4]))
                weight = even((4, 4 // groups, 3, 3))
                dilation = int(rng.integers(1, 3))
                link = Connection(
                    source, kind, weight, exponent, (1, 1), (dilation, dilation),
                    (dilation, dilation), groups=groups,
                )  # fmt: skip
            links.append(link)
        neuron = Neuron(*(int(n) for n in rng.integers(0, 4097, 2)), int(rng.integers(0, 9000)))
        name = f"node {i} é/{'.' * i}"
        nodes.append(Node(name, shape, neuron, rng.integers(-9, 9, 4), tuple(links), 900 + i))
        shapes[name] = shape
    bits = int(rng.integers(1, 9))
    return IntegerNet(shape, tuple(nodes), len(nodes), int(rng.integers(1, 4)), bits)


@pytest.mark.parametrize("seed", range(25))
def test_a_net_comes_back_equal(seed: int, tmp_path: Path) -> None:
    net = random_net(seed)
    path = tmp_path / "edge.net"
    write_netx(net, path)
    assert read_netx(path) == net
    assert [p.name for p in tmp_path.iterdir()] == ["edge.net"]


def chain_net() -> IntegerNet:
    weight = 2 * np.arange(-9, 9, dtype=np.int16).reshape(2, 1, 3, 3)
    link = Connection("input", "conv", weight, 0, (1, 1), (1, 1))
    return IntegerNet((1, 4, 4), (Node("one", (2, 4, 4), LIF, np.zeros(2, int), (link,)),), 1, 2)


def test_weights_take_a_byte_each_where_lava_dl_refuses_the_file(tmp_path: Path) -> None:
    path = tmp_path / "edge.net"
    plain = chain_net()
    for net, layer, kind, factor in (
        (plain, 1, np.float32, 1),
        (replace(plain, input_bits=4), 2, np.int8, 2),
    ):
        write_netx(net, path)
        assert read_netx(path) == net
        with h5py.File(path) as file:
            stored = np.array(file[f"layer/{layer}/weight"])
        assert stored.dtype == kind
        assert np.array_equal(stored.astype(int) * factor, plain.nodes[0].connections[0].weight)


def test_halved_weights_that_lava_dl_would_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "edge.net"
    write_netx(chain_net(), path)
    with h5py.File(path, "r+") as file:
        text = file["neucodex/structure"][()].replace(b'"version": 1', b'"version": 2')
        del file["neucodex/structure"]
        file.create_dataset("neucodex/structure", data=np.bytes_(text))
    with pytest.raises(FormatError, match="version 2 of a file that lava-dl would read"):
        read_netx(path)


@pytest.mark.parametrize("value", [129, -130, 1 << 20])
def test_a_halved_weight_out_of_range_is_refused(value: int, tmp_path: Path) -> None:
    path = tmp_path / "edge.net"
    write_netx(replace(chain_net(), input_bits=4), path)
    with h5py.File(path, "r+") as file:
        weight = np.array(file["layer/2/weight"]).astype(np.int32)
        weight[0, 0, 0, 0] = value
        del file["layer/2/weight"]
        file.create_dataset("layer/2/weight", data=weight)
    with pytest.raises(NeucodexError, match="outside"):
        read_netx(path)


@pytest.mark.parametrize("cut", [1, 3, 4, 5])
def test_only_the_part_before_the_cut_is_written(cut: int, tmp_path: Path) -> None:
    net, _, _ = load_join_net(cut)
    path = tmp_path / "edge.net"
    write_netx(net, path)
    found = read_netx(path)
    assert found == net.edge_part()
    assert len(found.nodes) == cut == found.cut


def test_a_file_is_the_same_each_time(tmp_path: Path) -> None:
    net = random_net(3)
    for name in "ab":
        write_netx(net, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_before_the_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NetError, match="cut at 0"):
        write_netx(load_join_net(0)[0], tmp_path / "edge.net")
    assert not list(tmp_path.iterdir())


def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    net = random_net(1)
    path = tmp_path / "edge.net"
    write_netx(net, path)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(netx_writer, "node_fields", fail)
    with pytest.raises(FormatError, match="No space left"):
        write_netx(random_net(2), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["edge.net"]


def own(tmp_path: Path) -> Path:
    path = tmp_path / "edge.net"
    write_netx(load_join_net(1)[0], path)
    return path


def put(file: h5py.File, key: str, value: object) -> None:
    if key in file:
        del file[key]
    if value is not None:
        file.create_dataset(key, data=value)


def structure(old: str, new: str):
    def edit(file: h5py.File) -> None:
        text = bytes(file["neucodex/structure"][()]).decode()
        assert old in text
        put(file, "neucodex/structure", np.bytes_(text.replace(old, new).encode()))

    return edit


def datasets(key: str, value: object):
    return lambda file: put(file, key, value)


def soft_link(file: h5py.File) -> None:
    put(file, "layer/1/weight", None)
    file["layer/1/weight"] = h5py.ExternalLink("/etc/passwd", "/weight")


def huge(file: h5py.File) -> None:
    put(file, "layer/1/weight", None)
    file.create_dataset("layer/1/weight", (1 << 20, 1 << 20, 3, 3), "f4")


def unwritten(file: h5py.File) -> None:
    put(file, "layer/1/bias", None)
    file.create_dataset("layer/1/bias", (4, 5), "f4")
    put(file, "layer/1/weight", None)
    file.create_dataset("layer/1/weight", (4, 5), "f4")


def compressed(file: h5py.File) -> None:
    put(file, "layer/1/weight", None)
    file.create_dataset("layer/1/weight", (1 << 12, 1 << 12), "f4", compression="gzip")


def no_layers(file: h5py.File) -> None:
    del file["layer"]


def no_weights(file: h5py.File) -> None:
    del file["layer/1/weight"]


def group_for_dataset(file: h5py.File) -> None:
    del file["layer/1/bias"]
    file.create_group("layer/1/bias")


def gap(file: h5py.File) -> None:
    file.move("layer/1", "layer/7")


DEFECTS = {
    "no layers": (no_layers, "'layer' is missing"),
    "a gap in the layers": (gap, "not numbered from 0 on"),
    "no weights": (no_weights, "layer/1: 'weight' is missing"),
    "a group for a dataset": (group_for_dataset, "layer/1/bias: is not a dataset"),
    "a link": (soft_link, "layer/1/weight: is a link"),
    "a huge dataset": (huge, "needs more bytes than the file's"),
    "a dataset that was never written": (unwritten, r"shape \(4, 5\) was never written"),
    "a compressed dataset": (compressed, "chunked, compressed or stored elsewhere"),
    "text for weights": (datasets("layer/1/weight", "hello"), "layer/1/weight: has shape"),
    "a fraction": (datasets("layer/1/bias", np.array([0.5, 1])), "0.5 is not an integer"),
    "not a number": (datasets("layer/1/bias", np.array([np.nan, 1])), "nan is not an integer"),
    "a complex number": (datasets("layer/1/bias", np.array([1j, 1])), "not numbers"),
    "an odd weight": (datasets("layer/1/weight", np.ones((2, 1, 3, 3))), "weight 1 is odd"),
    "too large a weight": (
        datasets("layer/1/weight", np.full((2, 1, 3, 3), 256)),
        "'stem'.*weight 256 is outside",
    ),
    "too large a threshold": (
        datasets("layer/1/neuron/vThMant", 1 << 18),
        "'stem': threshold 262144",
    ),
    "another stride": (datasets("layer/1/stride", [2, 2]), "layer/1: 'stride' does not match"),
    "another type": (datasets("layer/1/type", b"dense"), "type is 'dense', expected 'conv'"),
    "a delay": (datasets("layer/1/delay", [1, 2]), "layer/1: unexpected 'delay'"),
    "another layer": (datasets("layer/2/type", b"conv"), "layers do not match"),
    "a number for a type": (datasets("layer/1/type", 5), "layer/1/type: is not one string"),
    "no JSON": (datasets("neucodex/structure", np.bytes_(b"{")), "not JSON"),
    "deep JSON": (datasets("neucodex/structure", np.bytes_(b"[" * 100000)), "not JSON"),
    "a newer version": (structure('"version": 1', '"version": 7'), "version 7.*reads up to 3"),
    "another format": (structure("neucodex-netx", "x"), "'format' is not"),
    "no timesteps": (structure('"timesteps"', '"timestep"'), "unknown key 'timestep'"),
    "timesteps as text": (structure('"timesteps": 2', '"timesteps": "4"'), "must be an integer"),
    "a true for a number": (structure('"timesteps": 2', '"timesteps": true'), "must be an integ"),
    "a dangling source": (structure('"source": "input"', '"source": "x"'), "not an earlier node"),
    "a loop": (structure('"source": "input"', '"source": "stem"'), "not an earlier node"),
    "an unknown kind": (structure('"kind": "conv"', '"kind": "pool"'), "unknown kind"),
    "a huge input": (
        structure('"input_shape": [\n  1,', '"input_shape": [\n  9999999,'),
        "values, limit",
    ),
}


@pytest.mark.parametrize("what", DEFECTS)
def test_a_defect_is_named_in_one_line(what: str, tmp_path: Path) -> None:
    edit, message = DEFECTS[what]
    path = own(tmp_path)
    with h5py.File(path, "a") as file:
        edit(file)
    with pytest.raises((FormatError, NetError), match=message) as caught:
        read_netx(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="No such file"):
        read_netx(tmp_path / "none.net")
    with pytest.raises(FormatError, match="directory"):
        read_netx(tmp_path)
    path = tmp_path / "x.net"
    for content in (b"", b"PK\x03\x04 nothing", b"\x89HDF\r\n\x1a\n"):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="not an HDF5 file|cannot be read"):
            read_netx(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = own(tmp_path).read_bytes()
    path = tmp_path / "short.net"
    for length in range(0, len(whole), 101):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            read_netx(path)


@pytest.mark.parametrize(
    ("version", "problem"),
    [(1, "lava-dl would misread this file"), (2, "lava-dl would read, and misread")],
)
def test_a_marker_cannot_be_removed(version: int, problem: str, tmp_path: Path) -> None:
    """A file that lava-dl must refuse is not accepted without what makes it do so."""
    path = tmp_path / "edge.net"
    write_netx(load_join_net(3)[0], path)
    with h5py.File(path, "a") as file:
        del file["layer/0"]
        for i in range(1, len(file["layer"]) + 1):
            file.move(f"layer/{i}", f"layer/{i - 1}")
        structure('"layers": [\n  2,\n  3,\n  4\n ]', '"layers": [1, 2, 3]')(file)
        structure('"version": 2', f'"version": {version}')(file)
        if version == 1:
            names: list[str] = []
            file.visit(names.append)
            for name in (n for n in names if n.endswith("weight")):
                put(file, name, 2.0 * np.array(file[name]))
    with pytest.raises(FormatError, match=problem):
        read_netx(path)


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    data = bytearray(content)
    how = rng.integers(0, 4)
    for _ in range(rng.integers(1, 9)):
        at = int(rng.integers(0, len(data)))
        if how == 0:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif how == 1:
            data[at] = int(rng.choice([0, 1, 127, 128, 255]))
        elif how == 2:
            n = int(rng.choice([2, 4, 8]))
            data[at : at + n] = b"\xff" * min(n, len(data) - at)
        else:
            other = int(rng.integers(0, len(data)))
            data[at : at + 16] = data[other : other + len(data[at : at + 16])]
    return bytes(data[: len(content)])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("source", ["own", "foreign"])
def test_hundreds_of_damaged_files_end_in_one_line_each(source: str, tmp_path: Path) -> None:
    """Each is read as the same kind of net or refused; no other exception leaves the reader."""
    path = own(tmp_path) if source == "own" else foreign(tmp_path)
    content = path.read_bytes()
    rng = np.random.default_rng(2024)
    refused = 0
    for _ in range(300):
        path.write_bytes(mutated(rng, content))
        try:
            read_netx(path, timesteps=2)
        except NeucodexError as error:
            refused += 1
            assert isinstance(error, FormatError | NetError)
            assert "\n" not in str(error)
            assert len(str(error)) < 600
    assert refused > 50


# --- files of lava-dl ---------------------------------------------------------------------------


def foreign(tmp_path: Path) -> Path:
    """A chain as lava-dl's own export writes it: no group of ours, HDF5's oldest format, and the
    neuron's type as a variable-length string."""
    write_netx(chain(), tmp_path / "ours.net")
    path = tmp_path / "foreign.net"
    with h5py.File(tmp_path / "ours.net") as ours, h5py.File(path, "w") as file:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                file[f"layer/{name}"] = "CUBA" if name.endswith("neuron/type") else item[()]

        ours["layer"].visititems(copy)
    (tmp_path / "ours.net").unlink()
    return path


def chain() -> IntegerNet:
    rng = np.random.default_rng(0)
    w1 = 2 * rng.integers(-9, 20, (4, 1, 3, 2))
    first = Connection("input", "conv", w1, 0, (2, 1), (1, 0), groups=2)
    shape = first.output_shape((2, 6, 5))
    assert shape is not None
    w2 = 2 * rng.integers(-9, 20, (3, int(np.prod(shape))))
    nodes = (
        Node("conv1", shape, LIF, np.array([1, 2, 3, -4]), (first,)),
        Node("dense3", (3, 1, 1), LIF, np.array([5, 0, 7]), (Connection("conv1", "dense", w2),)),
    )
    return IntegerNet((2, 6, 5), nodes, 2, 2)


def test_a_chain_of_lava_dl_is_read(tmp_path: Path) -> None:
    assert read_netx(foreign(tmp_path), timesteps=2) == chain()


FOREIGN_DEFECTS = {
    "pooling": (datasets("layer/1/type", b"pool"), "layer/1: pooling is not"),
    "a recurrent layer": (datasets("layer/1/weight_rec", [[2.0]]), "layer/1: the layer is recu"),
    "a delay": (datasets("layer/1/delay", [0.0, 3.0]), "the convolution has delays"),
    "sigma-delta": (datasets("layer/1/neuron/type", "SDNN"), "neurons of type 'SDNN'"),
    "graded spikes": (datasets("layer/3/neuron/gradedSpike", True), "'gradedSpike' is set"),
    "a weight exponent": (datasets("layer/1/neuron/weight_exp", 3), "has a weight exp"),
    "a refractory delay": (datasets("layer/1/neuron/refDelay", 2), "refractory delays"),
    "a kernel of size 0": (datasets("layer/1/weight", np.zeros((4, 1, 0, 2))), "has no weights"),
    "a huge padding": (datasets("layer/1/padding", [1 << 20, 0]), "outside"),
    "a stride of 0": (datasets("layer/1/stride", [0, 0]), "'stride' is 0"),
    "a huge shape": (datasets("layer/0/shape", [1 << 20, 1 << 20, 4]), "exceeds|shape"),
    "a negative shape": (datasets("layer/1/shape", [-4, 3, 4]), "is no shape of a layer"),
    "groups that do not fit": (datasets("layer/1/groups", 3), "do not fit 2 input channels"),
}


@pytest.mark.parametrize("what", FOREIGN_DEFECTS)
def test_what_lava_dl_can_write_and_we_cannot_hold_is_named(what: str, tmp_path: Path) -> None:
    edit, message = FOREIGN_DEFECTS[what]
    path = foreign(tmp_path)
    with h5py.File(path, "a") as file:
        edit(file)
    with pytest.raises((FormatError, NetError), match=message):
        read_netx(path, timesteps=2)


def test_a_damaged_string_heap_is_refused(tmp_path: Path) -> None:
    """HDF5's own reader never returns from the first of these."""
    path = foreign(tmp_path)
    content = path.read_bytes()
    at = content.index(b"GCOL")
    for offset, new in ((16, b"\x07"), (24, b"\xff" * 8), (0, b"X"), (32, b"\xff")):
        path.write_bytes(content[: at + offset] + new + content[at + offset + len(new) :])
        with pytest.raises(FormatError, match="heap|ASCII"):
            read_netx(path, timesteps=2)


def test_an_encoding_input_can_be_skipped_and_a_missing_one_given(tmp_path: Path) -> None:
    path = foreign(tmp_path)
    with pytest.raises(FormatError, match="how many timesteps"):
        read_netx(path)
    with h5py.File(path, "a") as file:
        put(file, "layer/0/neuron/type", "CUBA")
        for key in ("iDecay", "vDecay", "vThMant"):
            put(file, f"layer/0/neuron/{key}", 99)
    assert [n.name for n in read_netx(path, timesteps=2).nodes] == ["input0", "conv1", "dense3"]
    assert read_netx(path, timesteps=2, skip_layers=1) == chain()
    with h5py.File(path, "a") as file:
        del file["layer/0"]
        for i in (1, 2, 3):
            file.move(f"layer/{i}", f"layer/{i - 1}")
    with pytest.raises(FormatError, match="does not say the shape of its input"):
        read_netx(path, timesteps=2)
    found = read_netx(path, timesteps=2, input_shape=(2, 6, 5))
    first, second = chain().nodes
    link = replace(second.connections[0], source="conv0")
    renamed = (replace(first, name="conv0"), replace(second, name="dense2", connections=(link,)))
    assert found.nodes == renamed
