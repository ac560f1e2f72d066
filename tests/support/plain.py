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
        neuron = Neuron(n["iDecay"], n["vDecay"], n["threshold"])
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


def decay(state: np.ndarray, by: int) -> np.ndarray:
    product = state * (4096 - by)
    return np.sign(product) * (np.abs(product) >> 12)


def run_plain(
    net: IntegerNet, spikes: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Ledger]:
    """Spikes and potentials (before reset) of every node, (N, C, H, W, T), and the ledger."""
    samples, timesteps = spikes.shape[0], spikes.shape[-1]
    names = [node.name for node in net.nodes]
    links = [(node.name, c.source) for node, c in net.connections()]
    ledger = Ledger.zeros(names, links, samples, timesteps)
    out = {n.name: np.zeros((samples, *n.shape, timesteps), np.uint8) for n in net.nodes}
    potential = {n.name: np.zeros((samples, *n.shape, timesteps), np.int64) for n in net.nodes}
    for s in range(samples):
        u = {n.name: np.zeros(n.shape, np.int64) for n in net.nodes}
        v = {n.name: np.zeros(n.shape, np.int64) for n in net.nodes}
        for t in range(timesteps):
            row = 0
            values = {"input": spikes[s, ..., t]}
            for i, node in enumerate(net.nodes):
                a = np.zeros(node.shape, np.int64)
                for c in node.connections:
                    x = values[c.source]
                    a += synapse(c, x, node.shape)
                    every, nonzero = c.fan_out(x.shape, node.shape)
                    active = x != 0
                    ledger.spikes_in[s, row, t] = active.sum()
                    if net.is_graded(c):
                        ledger.macs[s, row, t] = (every * active).sum()
                    else:
                        ledger.syn_ops[s, row, t] = (every * active).sum()
                        ledger.syn_ops_nonzero[s, row, t] = (nonzero * active).sum()
                    row += 1
                k = node.neuron
                new_u = decay(u[node.name], k.current_decay) + (a << 6)
                new_u = np.where(new_u > 2**23, new_u - 2**24, new_u)
                new_u = np.where(new_u <= -(2**23), new_u + 2**24, new_u)
                bias = node.bias.astype(np.int64)[:, None, None]
                new_v = decay(v[node.name], k.voltage_decay) + new_u + (bias << 6)
                new_v = np.clip(new_v, -(2**23) + 1, 2**23 - 1)
                fired = new_v > (k.threshold << 6)
                potential[node.name][s, ..., t] = new_v
                out[node.name][s, ..., t] = fired
                u[node.name], v[node.name] = new_u, np.where(fired, 0, new_v)
                values[node.name] = fired
                ledger.dendrite_updates[s, i, t] = node.size
                ledger.axon_out[s, i, t] = fired.sum()
    return out, potential, ledger
