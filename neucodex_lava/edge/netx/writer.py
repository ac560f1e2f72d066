"""Write the part of an IntegerNet before its cut as a NetX file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np

from neucodex_lava.edge.netx.layout import (
    EXITS_SINCE,
    EXTRA,
    FORMAT,
    HALVED_SINCE,
    STRUCTURE,
    layer_plan,
    node_fields,
    plain_layer_fields,
    why_not_stock,
)
from neucodex_lava.errors import FormatError, NetError
from neucodex_lava.integer_net import IntegerNet, Node
from neucodex_lava.structure import needs_resets, nodes_to_json


def write_netx(net: IntegerNet, path: Path | str) -> None:
    """Write the nodes before the cut of `net` as NetX HDF5.

    A chain is read by lava-dl's own ``netx.hdf5.Network`` with the same spikes; for everything
    else the file begins with a layer at which lava-dl raises NotImplementedError.

    Args:
        net: the network; its nodes from the cut on are left out.
        path: the file, written under a temporary name beside it and then renamed.

    Raises:
        NetError: when the cut is 0, so that there is nothing to write.
        FormatError: when the file cannot be written.
    """
    path = Path(path)
    if net.cut == 0:
        raise NetError("the network is cut at 0: no node before the cut to write as NetX")
    edge = net.edge_part()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # From this version on HDF5 keeps checksums of its own bookkeeping.
        with h5py.File(temporary, "w", libver=("v108", "v108")) as file:
            _write(file, edge)
        temporary.replace(path)
    except OSError as problem:
        raise FormatError(f"{path}: cannot be written ({problem})") from problem
    finally:
        temporary.unlink(missing_ok=True)


def _write(file: h5py.File, edge: IntegerNet) -> None:
    reason = why_not_stock(edge)
    plan = layer_plan(edge, marked=bool(reason))
    layers: list[int] = []
    for index, item in enumerate(plan):
        group = file.create_group(f"layer/{index}")
        if isinstance(item, Node):
            layers.append(index)
            fields = node_fields(edge, item, halved=bool(reason))
        else:
            following = plan[index + 1] if index + 1 < len(plan) else None
            fields = plain_layer_fields(item, edge, following)
        for key, value in fields.items():
            group.create_dataset(key, data=value)
    version = HALVED_SINCE if reason else 1
    if needs_resets(edge.nodes) or edge.end:
        version = EXITS_SINCE
    structure = {
        "format": FORMAT,
        "version": version,
        "refused_by_lava_dl": reason,
        "input_shape": list(edge.input_shape),
        "input_bits": edge.input_bits,
        "timesteps": edge.timesteps,
        "layers": layers,
        "nodes": nodes_to_json(edge.nodes),
    } | ({"end": edge.end} if edge.end else {})
    text = json.dumps(structure, indent=1, sort_keys=True).encode("ascii")
    file.create_dataset(f"{EXTRA}/{STRUCTURE}", data=np.bytes_(text))
