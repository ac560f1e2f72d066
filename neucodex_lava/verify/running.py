"""Run backends on a bundle's golden input: once over all of it, or again to watch one node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.bundle import Bundle
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.verify.compare import Seen

if TYPE_CHECKING:
    from neucodex_lava.models.split import SplitModel
    from neucodex_lava.training.runs import Run

States = NDArray[np.int32]


@dataclass(frozen=True)
class Watched:
    """A node's currents and potentials (after reset) in one sample, int32 (C, H, W, T), state units;
    None where a backend does not show them.
    """

    currents: States | None
    potentials: States | None


def run_backend(
    backend: str, schedule: str | None, bundle: Bundle, model: SplitModel | None
) -> Seen:
    """Run one backend on the golden input.

    Args:
        backend, schedule: of `verify.BACKENDS`.
        bundle: whose net and input.
        model: the training run's, for the backends ``slayer`` and ``plain``.
    """
    net, golden = bundle.net, bundle.golden
    if backend in ("slayer", "plain"):
        assert model is not None
        slayer = model.run_slayer(golden.inputs)
        names = list(slayer.spikes)
        return Seen(names, slayer.spikes, slayer.sums, None, slayer.potentials, slayer.exit_sums)
    if backend == "twin":
        from neucodex_lava.cloud.executor import Executor
        from neucodex_lava.cloud.twin import run_twin

        twin = run_twin(Executor(net), golden.inputs, record=True)
        assert twin.spikes is not None
        names = [n.name for n in net.nodes]
        return Seen(names, twin.spikes, twin.sums, twin.ledger, twin.potentials, twin.exit_sums)
    if backend == "netx":
        from neucodex_lava.stock_netx import run_stock_netx

        last = net.output
        out, sums = run_stock_netx(bundle.path / "edge.net", net, golden.inputs)
        return Seen([last], {last: out}, sums)
    from neucodex_lava.edge.simulation import simulate

    lava = simulate(
        net,
        golden.inputs,
        backend=backend,  # type: ignore[arg-type]
        schedule=schedule,  # type: ignore[arg-type]
        record=True,
    )
    assert lava.spikes is not None
    names = [n.name for n in net.edge_nodes]
    shown = lava.potentials if lava.potentials.keys() >= set(names) else None
    return Seen(names, lava.spikes, lava.sums, lava.ledger, shown, lava.exit_sums)


def watch(
    backend: str,
    schedule: str | None,
    net: IntegerNet,
    inputs: NDArray[np.uint8],
    node: str,
    model: SplitModel | None = None,
) -> Watched | None:
    """Run a backend again and show one node's states in the last sample.

    Args:
        backend, schedule: who.
        net: the network.
        inputs: samples up to the one that matters, (N, C, H, W, T); those before it count, because
            something of them may have been left behind.
        node: name of the node.
        model: the training run's, for the backend ``slayer``.

    Returns:
        None where the backend shows nothing of this node.
    """
    if backend in ("slayer", "plain"):
        assert model is not None
        return Watched(None, model.run_slayer(inputs).potentials[node][-1])
    if backend == "twin":
        return _watch_twin(net, inputs, node)
    if backend == "netx" or node not in [n.name for n in net.edge_nodes]:
        return None
    from neucodex_lava.edge.simulation import simulate

    lava = simulate(net, inputs, backend=backend, schedule=schedule, watch=[node])  # type: ignore[arg-type]
    return Watched(lava.currents[node][-1], lava.potentials[node][-1])


def _watch_twin(net: IntegerNet, inputs: NDArray[np.uint8], node: str) -> Watched:
    import torch

    from neucodex_lava.cloud.executor import Executor

    executor = Executor(net)
    x = torch.from_numpy(np.moveaxis(inputs, -1, 0).copy())
    _, traces = executor.advance(executor.initial_state(), x, record=True, watch=[node])
    currents, potentials = (
        np.moveaxis(trace[node].numpy()[:, -1], 0, -1).astype(np.int32)
        for trace in (traces.currents, traces.potentials)
    )
    return Watched(currents, potentials)


def load_run(folder: Path, bundle: Bundle) -> tuple[SplitModel, IntegerNet]:
    """The model of the training run that a bundle was exported from, and its integer network.

    A run with the bundle's command line and seed but other integers is loaded: it was changed, and what
    differs is for the comparison to find.

    Raises:
        FormatError: no finished run.
        ConfigError: another run.
    """
    from neucodex_lava.quantize import to_integer_net
    from neucodex_lava.training.runs import load_model  # SLAYER is slow to import

    run, model = load_model(folder)
    net = to_integer_net(model)
    if {node.name: node.fingerprint() for node in net.nodes} != bundle.golden.integers:
        other = _other_run(run, bundle)
        if other:
            raise ConfigError(
                f"wrong run: '{folder}' is not the one that this bundle was exported from, {other}",
                "pass the folder of the bundle's own run, or verify without --run",
            )
    return model, net


def _other_run(run: Run, bundle: Bundle) -> str:
    """What shows that a run is not the bundle's; empty where nothing does."""
    manifest = bundle.manifest
    pairs = {
        "architecture": (run.model.architecture, manifest.architecture),
        "dataset": (run.data.dataset, manifest.dataset),
        "split": (f"SP{run.bottleneck.split}" if run.bottleneck else None, manifest.split),
        "seed": (run.train.seed, manifest.seed),
        "command": (run.command, manifest.command),
    }
    for name, (found, expected) in pairs.items():
        if found != expected:
            return f"its {name} is '{found}', the bundle's '{expected}'"
    return ""
