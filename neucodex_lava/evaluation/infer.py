"""Classify test samples with the edge here and the tail on a server: ``neucodex infer``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from neucodex_lava.bundle import load_bundle
from neucodex_lava.config import require
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.edge.wiring import Schedule
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.evaluation.inference import Inference, InferredSample
from neucodex_lava.evaluation.measured import connect, run_measured
from neucodex_lava.evaluation.pipelined import code_depth, fed_timesteps
from neucodex_lava.evaluation.place import infer as place_infer
from neucodex_lava.evaluation.place.placement import LinkPrices
from neucodex_lava.evaluation.policies import OWN, Numbers, choose_policy
from neucodex_lava.evaluation.samples import load_indexed_samples
from neucodex_lava.evaluation.serve import cut_bundle
from neucodex_lava.progress import Progress, silent


def infer(
    folder: Path,
    target: str,
    *,
    split: str | None = None,
    samples: int = 20,
    policy: str = "confidence",
    numbers: Numbers = OWN,
    costs: LinkPrices | None = None,
    timeout_s: float = 5.0,
    schedule: Schedule = "gated",
    dataset: str | None = None,
    data_root: Path | None = None,
    progress: Progress = silent,
) -> Inference:
    """Run samples through Lava and a server, one after the other.

    Args:
        folder: the bundle that the server serves.
        target: HOST:PORT.
        split: cut of a base bundle.
        samples: test samples, 0 for all.
        policy, numbers: the exit policy; samples that it was calibrated on are left out. ``place``
            answers on the edge or in the cloud (`place_infer`).
        costs: of the link, for ``place``.
        timeout_s: longest wait for one answer, in seconds.
        schedule: of the edge part: ``gated`` or ``pipelined``.
        dataset, data_root: as `load_samples`.
        progress: called after every sample.

    Raises:
        NeucodexError: whatever stands in the way, with the way out.
    """
    bundle = load_bundle(folder)
    if policy == place_infer.POLICY:
        require(
            schedule == "gated",
            "an exit head that stops the edge needs gated neurons",
            "leave out --schedule pipelined",
        )
        numbers.require_use((policy,), bundle.manifest.t_max)
        return place_infer.infer_place(
            bundle,
            target,
            costs or LinkPrices(),
            split=split,
            samples=samples,
            timeout_s=timeout_s,
            dataset=dataset,
            data_root=data_root,
            progress=progress,
        )
    net = cut_bundle(bundle, split)
    c = Configuration("infer", split, bundle, net, dynamic=True)
    numbers.require_use((policy,), net.timesteps)
    choice = choose_policy(bundle, policy, numbers)
    inputs, labels, index = load_indexed_samples(
        bundle,
        samples,
        data_root=data_root,
        dataset=dataset,
        leave_out=[choice.half] if choice.half else [],
    )
    # Made before Lava starts, so that a wrong address is told at once; connected after it: Lava forks,
    # and a fork does not carry gRPC's threads over.
    client = connect(c, target, timeout_s)
    with ExitStack() as stack:
        session = None
        if c.has_edge:
            session = EdgeSession(net, schedule=schedule, keep_ledger=True)
            stack.enter_context(session)
        stack.enter_context(client)
        found = run_measured(
            inputs, choice.policy, session, client, task="infer", progress=progress
        )
    per_sample = found.ledger.per_sample("syn_ops") if found.ledger else [0] * len(inputs)
    depth = code_depth(net) if c.has_edge and schedule == "pipelined" else 0
    fed = fed_timesteps(net, found.exits.timesteps) if depth else found.exits.timesteps
    rows = [
        InferredSample(
            sample=n,
            index=int(index[n]),
            label=int(labels[n]),
            prediction=int(found.exits.predictions[n]),
            timesteps=int(found.exits.timesteps[n]),
            edge_timesteps=int(fed[n]) if c.has_edge else 0,
            payload_bits=int(found.payload_bits[n]),
            wire_bytes=int(found.wire_bytes[n]),
            syn_ops=int(per_sample[n]),
            edge_s=float(found.edge_s[n]),
            roundtrip_s=float(found.roundtrip_s[n]),
            cloud_s=float(found.cloud_s[n]),
        )
        for n in range(len(inputs))
    ]
    return Inference(target, c.model_id, net.timesteps, schedule, policy, depth, rows)
