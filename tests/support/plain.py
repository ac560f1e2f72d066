"""The semantics in plain numpy, written for clarity and checked against the fixture. Tests only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from energy.ledger import Ledger
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node

FIXTURE = Path(__file__).parent.parent / "join_net.json"


def load_join_net(cut: int = 3) -> tuple[IntegerNet, np.ndarray, list[dict[str, Any]]]:
    """The fixture: net, input (1, C, H, W, T) and the worked-out steps."""
    raw = json.loads(FIXTURE.read_text())
    nodes: list[Node] = []
    for item in raw["nodes"]:
        connections: list[Connection] = []
        for c in item["connections"]:
            extra = {k: (c[k], c[k]) for k in ("stride", "padding") if k in c}
            weight = np.array(c["weight"], dtype=np.int16)
            connections.append(Connection(c["source"], c["kind"], weight, c["exponent"], **extra))
        n = item["neuron"]
        neuron = Neuron(
            n["iDecay"], n["vDecay"], n["threshold"], n.get("reset", "zero"), n.get("initial", 0)
        )
        bias = np.array(item["bias"])
        nodes.append(Node(item["name"], tuple(item["shape"]), neuron, bias, tuple(connections)))
    spikes = np.moveaxis(np.array(raw["input"], dtype=np.uint8), 0, -1)[None]
    net = IntegerNet(spikes.shape[1:4], tuple(nodes), cut=cut, timesteps=raw["timesteps"])
    return net, spikes, raw["steps"]


def synapse(connection: Connection, x: np.ndarray, target: tuple[int, int, int]) -> np.ndarray:
    """Weighted sum of one connection for input (C, H, W), by plain loops over spikes."""
    w = connection.effective_weight()
    x = x.astype(np.int64)
    if connection.kind == "identity":
        return x * int(w)
    if connection.kind == "dense":
        return (w @ x.reshape(-1)).reshape(target)
    out = np.zeros(target, np.int64)
    (sy, sx), (py, px), (dy, dx) = connection.stride, connection.padding, connection.dilation
    groups = connection.groups
    in_per_group = x.shape[0] // groups
    out_per_group = target[0] // groups
    for c, iy, ix in np.argwhere(x):
        g = c // in_per_group
        channels = slice(g * out_per_group, (g + 1) * out_per_group)
        for ky in range(w.shape[2]):
            for kx in range(w.shape[3]):
                if connection.kind == "conv":
                    oy, ry = divmod(iy + py - ky * dy, sy)
                    ox, rx = divmod(ix + px - kx * dx, sx)
                    tap = w[channels, c % in_per_group, ky, kx]
                else:
                    oy, ry = iy * sy - py + ky * dy, 0
                    ox, rx = ix * sx - px + kx * dx, 0
                    tap = w[c, :, ky, kx]
                if ry == 0 and rx == 0 and 0 <= oy < target[1] and 0 <= ox < target[2]:
                    out[channels, oy, ox] += tap * x[c, iy, ix]
    return out


def reached(connection: Connection, x: np.ndarray, target: Any) -> tuple[int, int]:
    """Synapses that spikes (C, H, W) reach, and those of a weight other than 0, one by one."""
    every = nonzero = 0
    w = connection.weight
    (sy, sx), (py, px), (dy, dx) = connection.stride, connection.padding, connection.dilation
    for c, iy, ix in np.argwhere(x):
        if connection.kind == "identity":
            every, nonzero = every + 1, nonzero + int(w != 0)
            continue
        if connection.kind == "dense":
            column = w[:, np.ravel_multi_index((c, iy, ix), x.shape)]
            every, nonzero = every + column.size, nonzero + np.count_nonzero(column)
            continue
        group, within = divmod(c, x.shape[0] // connection.groups)
        out = target[0] // connection.groups
        for ky, kx in np.ndindex(*w.shape[2:]):
            if connection.kind == "conv":
                oy, ry = divmod(iy + py - ky * dy, sy)
                ox, rx = divmod(ix + px - kx * dx, sx)
                tap = w[group * out : (group + 1) * out, within, ky, kx]
            else:
                oy, ry = iy * sy - py + ky * dy, 0
                ox, rx = ix * sx - px + kx * dx, 0
                tap = w[c, :, ky, kx]
            if ry == 0 and rx == 0 and 0 <= oy < target[1] and 0 <= ox < target[2]:
                every, nonzero = every + tap.size, nonzero + np.count_nonzero(tap)
    return every, int(nonzero)


def delayed_sums(connection: Connection, train: np.ndarray, target: Any) -> np.ndarray:
    """Sums (*target, T) of one sample's spikes (C, H, W, T), by plain loops: spikes later than T go."""
    timesteps = train.shape[-1]
    sums = np.zeros((*target, timesteps), np.int64)
    for t in range(timesteps):
        x = train[..., t]
        for d in np.unique(connection.delay):
            if t + d >= timesteps:
                continue
            if connection.delays_targets:
                here = connection.delay.reshape(target) == d
                sums[..., t + d] += np.where(here, synapse(connection, x, target), 0)
            else:
                arriving = np.where(connection.source_delays(x.shape) == d, x, 0)
                sums[..., t + d] += synapse(connection, arriving, target)
    return sums


def arrivals(connection: Connection, train: np.ndarray) -> np.ndarray:
    """What a connection's synapses take up: spikes delayed where the delay is the source's."""
    each = connection.source_delays(train.shape[:3])
    late = np.zeros_like(train)
    for t in range(train.shape[-1]):
        for d in range(t + 1):
            late[..., t] |= np.where(each == d, train[..., t - d], 0)
    return late


def decay(state: np.ndarray, by: int) -> np.ndarray:
    product = state * (4096 - by)
    return np.sign(product) * (np.abs(product) >> 12)


def after_spike(neuron: Neuron, potential: np.ndarray) -> np.ndarray | int:
    """What a spike leaves of a potential."""
    return potential - (neuron.threshold << 6) if neuron.reset == "subtract" else 0


def after_reset(
    net: IntegerNet, spikes: dict[str, np.ndarray], potential: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Every node's potentials after reset, from what `run_plain` gave."""
    return {
        node.name: np.where(
            spikes[node.name], after_spike(node.neuron, potential[node.name]), potential[node.name]
        )
        for node in net.nodes
    }


def running_sums(potential: np.ndarray) -> np.ndarray:
    """A readout's S_t, (N, K, T), from its potentials (N, K, 1, 1, T)."""
    sums = np.sign(potential) * (np.abs(potential) >> 6)
    return sums.reshape(len(sums), -1, sums.shape[-1])


def run_plain(
    net: IntegerNet,
    spikes: np.ndarray,
    currents: dict[str, np.ndarray] | None = None,
    unclipped: dict[str, np.ndarray] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Ledger]:
    """Spikes and potentials (before reset) of every node, (N, C, H, W, T), and the ledger.

    `currents`, where given, is filled with every node's currents before they wrap, and `unclipped`
    with the potentials before they are clipped.
    """
    samples, timesteps = spikes.shape[0], spikes.shape[-1]
    names = [node.name for node in net.nodes]
    links = [(node.name, c.source) for node, c in net.connections()]
    ledger = Ledger.zeros(names, links, samples, timesteps)
    out = {n.name: np.zeros((samples, *n.shape, timesteps), np.uint8) for n in net.nodes}
    potential = {n.name: np.zeros((samples, *n.shape, timesteps), np.int64) for n in net.nodes}
    exact = {name: np.zeros_like(array) for name, array in potential.items()}
    free = {name: np.zeros_like(array) for name, array in potential.items()}
    for s in range(samples):
        trains = {"input": spikes[s]} | {name: array[s] for name, array in out.items()}
        row = 0
        for i, node in enumerate(net.nodes):
            sums = np.zeros((*node.shape, timesteps), np.int64)
            for c in node.connections:
                train = trains[c.source]
                sums += delayed_sums(c, train, node.shape)
                active = arrivals(c, train) != 0
                ledger.spikes_in[s, row] = active.sum(axis=(0, 1, 2))
                for t in range(timesteps):
                    every, nonzero = reached(c, active[..., t], node.shape)
                    if net.is_graded(c):
                        ledger.macs[s, row, t] = every
                    else:
                        ledger.syn_ops[s, row, t], ledger.syn_ops_nonzero[s, row, t] = (
                            every,
                            nonzero,
                        )
                row += 1
            u = np.zeros(node.shape, np.int64)
            v = np.full(node.shape, node.neuron.initial << 6, np.int64)
            for t in range(timesteps):
                k = node.neuron
                new_u = decay(u, k.current_decay) + (sums[..., t] << 6)
                exact[node.name][s, ..., t] = new_u
                new_u = np.where(new_u > 2**23, new_u - 2**24, new_u)
                new_u = np.where(new_u <= -(2**23), new_u + 2**24, new_u)
                bias = node.bias.astype(np.int64)[:, None, None]
                new_v = decay(v, k.voltage_decay) + new_u + (bias << 6)
                free[node.name][s, ..., t] = new_v
                new_v = np.clip(new_v, -(2**23) + 1, 2**23 - 1)
                fired = new_v > (k.threshold << 6)
                potential[node.name][s, ..., t] = new_v
                out[node.name][s, ..., t] = fired
                u, v = new_u, np.where(fired, after_spike(k, new_v), new_v)
                ledger.dendrite_updates[s, i, t] = node.size
                ledger.axon_out[s, i, t] = fired.sum()
    if currents is not None:
        currents |= exact
    if unclipped is not None:
        unclipped |= free
    return out, potential, ledger


def leaky_net(timesteps: int = 20) -> tuple[IntegerNet, np.ndarray]:
    """One node whose negative and positive potentials leak for long: rounding towards zero shows."""
    rng = np.random.default_rng(11)
    weight = (2 * rng.integers(-40, 30, (6, 2, 3, 3))).astype(np.int16)
    link = Connection("input", "conv", weight, padding=(1, 1))
    neuron = Neuron(3000, 700, 600)
    node = Node("leaky", (6, 5, 5), neuron, rng.integers(-9, 9, 6), (link,))
    net = IntegerNet((2, 5, 5), (node,), 1, timesteps)
    inputs = (rng.random((2, 2, 5, 5, timesteps)) < 0.2).astype(np.uint8)
    return net, inputs


def delayed_net(timesteps: int = 12) -> tuple[IntegerNet, np.ndarray]:
    """A joining net with every kind of delay, up to beyond the sample's end, and its input."""
    rng = np.random.default_rng(7)

    def weights(*size: int) -> np.ndarray:
        return (2 * rng.integers(-60, 61, size)).astype(np.int16)

    def delays(*size: int) -> np.ndarray:
        return rng.choice(np.array([0, 1, 2, 5, 62]), size)

    bias = rng.integers(-20, 40, 4)
    stem = Connection("input", "conv", weights(4, 2, 3, 3), padding=(1, 1), delay=np.array(2))
    body = Connection("stem", "conv", weights(4, 4, 3, 3), padding=(1, 1))
    skip = Connection("stem", "identity", np.int16(120), delay=np.array(3))
    by_source = Connection("join", "dense", weights(6, 100), delay=delays(1, 100))
    by_target = Connection("hidden", "dense", weights(5, 6), delay=delays(5, 1))
    beside = Connection("join", "dense", weights(5, 100), delay=np.array(1))
    nodes = (
        Node("stem", (4, 5, 5), Neuron(4096, 2048, 150), bias, (stem,)),
        Node("join", (4, 5, 5), Neuron(3000, 2048, 300), bias, (body, skip)),
        Node("hidden", (6, 1, 1), Neuron(4096, 1000, 200), np.arange(6), (by_source,)),
        Node("last", (5, 1, 1), Neuron(4096, 2048, 120), np.arange(5), (by_target, beside)),
    )
    net = IntegerNet((2, 5, 5), nodes, len(nodes), timesteps)
    inputs = (rng.random((2, 2, 5, 5, timesteps)) < 0.4).astype(np.uint8)
    return net, inputs


def random_net(seed: int, readout: bool | None = None) -> tuple[IntegerNet, np.ndarray]:
    """A small random net with borders, strides, groups, joins and exponents, and its input.

    Odd seeds have graded input; every third ends in a spiking node unless `readout` says so.
    """
    rng = np.random.default_rng(seed)
    bits = 3 if seed % 2 and readout is not True else 1
    timesteps = int(rng.integers(1, 5))
    shape = (int(rng.integers(1, 4)) * 2, int(rng.integers(4, 8)), int(rng.integers(4, 8)))

    def weights(*size: int) -> np.ndarray:
        w = 2 * rng.integers(-60, 61, size)
        return (w * (rng.random(size) < 0.8)).astype(np.int16)

    def lif(low: int = 60, high: int = 400) -> Neuron:
        i_decay = 4096 if rng.random() < 0.7 else int(rng.integers(1024, 4096))
        v_decay = 2048 if rng.random() < 0.6 else int(rng.integers(1024, 4097))
        return Neuron(i_decay, v_decay, int(rng.integers(low, high)))

    def node(name: str, links: tuple[Connection, ...], out: Any, neuron: Neuron) -> Node:
        return Node(name, out, neuron, rng.integers(-40, 60, out[0]), links)

    def conv(source: str, from_shape: Any, out: int, stride: int) -> tuple[Connection, Any]:
        groups = 2 if rng.random() < 0.3 and from_shape[0] % 2 == 0 and out % 2 == 0 else 1
        k = int(rng.choice([1, 2, 3]))
        dilation = 2 if rng.random() < 0.2 and k > 1 else 1
        padding = (dilation * (k - 1) + 1) // 2
        link = Connection(
            source,
            "conv",
            weights(out, from_shape[0] // groups, k, k),
            0 if rng.random() < 0.7 else 1,
            (stride, stride),
            (padding, padding),
            (dilation, dilation),
            groups=groups,
        )
        return link, link.output_shape(from_shape)

    link, now = conv("input", shape, 4, 1)
    nodes = [node("stem", (link,), now, lif())]
    last = "stem"
    for i in range(int(rng.integers(0, 3))):
        link, mid = conv(last, now, int(rng.choice([2, 4, 6])), int(rng.integers(1, 3)))
        nodes.append(node(f"a{i}", (link,), mid, lif()))
        if mid == now:
            skip = Connection(last, "identity", np.int16(2 * rng.integers(10, 60)), 1)
        else:
            skip = Connection(last, "conv", weights(mid[0], now[0], 1, 1), 0, link.stride)
            if skip.output_shape(now) != mid:
                now, last = mid, f"a{i}"
                continue
        body = Connection(f"a{i}", "conv", weights(mid[0], mid[0], 3, 3), 0, padding=(1, 1))
        nodes.append(node(f"join{i}", (body, skip), mid, lif(200, 900)))
        now, last = mid, f"join{i}"
    cut = len(nodes)
    if rng.random() < 0.5:
        up = Connection(last, "conv_transpose", weights(now[0], 3, 2, 2), 0, (2, 2))
        now = up.output_shape(now)
        nodes.append(node("decoder", (up,), now, lif()))
        last = "decoder"
    size = int(np.prod(now))
    end = readout if readout is not None else seed % 3 != 0
    neuron = Neuron(4096, 0, 131_071) if end else lif()
    dense = Connection(last, "dense", weights(3, size))
    nodes.append(node("readout" if end else "last", (dense,), (3, 1, 1), neuron))
    net = IntegerNet(shape, tuple(nodes), cut, timesteps, bits)
    inputs = rng.integers(0, 2**bits, (3, *shape, timesteps)) * (
        rng.random((3, *shape, timesteps)) < 0.6
    )
    return net, inputs.astype(np.uint8)
