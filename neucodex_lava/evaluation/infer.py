"""Classify test samples with the edge here and the tail on a server: ``neucodex infer``."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from host_bridge.client import EdgePool
from neucodex_lava.bundle import load_bundle
from neucodex_lava.config import require
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.edge.wiring import Schedule
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.evaluation.inference import Inference, InferredSample
from neucodex_lava.evaluation.live import Live, LiveOptions, run_in_flight, run_live
from neucodex_lava.evaluation.measured import LinkUse, Measured, connect, run_measured
from neucodex_lava.evaluation.pipelined import code_depth, fed_timesteps
from neucodex_lava.evaluation.place import infer as place_infer
from neucodex_lava.evaluation.place.placement import LinkPrices
from neucodex_lava.evaluation.policies import OWN, Numbers, choose_policy
from neucodex_lava.evaluation.samples import load_indexed_samples
from neucodex_lava.evaluation.serve import cut_bundle
from neucodex_lava.integer_net import IntegerNet
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
    use: LinkUse | None = None,
    live: LiveOptions | None = None,
    in_flight: int = 1,
    schedule: Schedule = "gated",
    dataset: str | None = None,
    data_root: Path | None = None,
    progress: Progress = silent,
) -> Inference:
    """Run samples through Lava and a server, one after the other or several at once.

    Args:
        folder: the bundle that the server serves.
        target: HOST:PORT, or several with commas between them.
        split: cut of a base bundle.
        samples: test samples, 0 for all.
        policy, numbers: the exit policy; samples that it was calibrated on are left out. ``place``
            answers on the edge or in the cloud (`place_infer`).
        costs: of the link, for ``place``.
        use: of the link.
        live: deadline and speculation.
        in_flight: samples at once, where nothing runs on the edge.
        schedule: of the edge part: ``gated`` or ``pipelined``.
        dataset, data_root: as `load_samples`.
        progress: called after every sample.

    Raises:
        NeucodexError: whatever stands in the way, with the way out.
    """
    bundle = load_bundle(folder)
    use, live = use or LinkUse(timeout_s=5.0), live or LiveOptions()
    if policy == place_infer.POLICY:
        require(
            schedule == "gated",
            "an exit head that stops the edge needs gated neurons",
            "leave out --schedule pipelined",
        )
        require(
            live == LiveOptions() and in_flight == 1,
            "policy place waits for the cloud and sends ahead by tables of its own",
            "leave out --deadline, --speculate and --in-flight, or take another policy",
        )
        numbers.require_use((policy,), bundle.manifest.t_max)
        return place_infer.infer_place(
            bundle,
            target,
            costs or LinkPrices(),
            use,
            split=split,
            samples=samples,
            dataset=dataset,
            data_root=data_root,
            progress=progress,
        )
    net = cut_bundle(bundle, split)
    c = Configuration("infer", split, bundle, net, dynamic=True)
    require(
        schedule == "gated" or live == LiveOptions(),
        "a pipelined edge runs on by the clock: it keeps no deadline and has run ahead already",
        "leave out --schedule pipelined, or --deadline and --speculate",
    )
    require(
        in_flight == 1 or not c.has_edge,
        "one edge computes one sample at a time",
        "--in-flight goes with --split input, where codes need no computing",
    )
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
    pool = EdgePool(in_flight, lambda channels: connect(c, target, use, channels), use.security)
    client = pool.clients[0]
    with ExitStack() as stack:
        session = None
        if c.has_edge:
            session = EdgeSession(net, schedule=schedule, keep_ledger=True)
            stack.enter_context(session)
        stack.callback(pool.close)
        if schedule == "pipelined":
            pool.open()
            measured = run_measured(
                inputs, choice.policy, session, client, task="infer", progress=progress
            )
            rows = _pipelined_rows(measured, net, index, labels)
            return Inference(
                target,
                c.model_id,
                net.timesteps,
                schedule,
                policy,
                code_depth(net),
                rows,
                link=asdict(client.counts),
            )
        if in_flight > 1:
            found = run_in_flight(inputs, choice.policy, pool, live, progress=progress)
        else:
            found = run_live(inputs, choice.policy, session, client, live, progress=progress)
    return Inference(
        target,
        c.model_id,
        net.timesteps,
        schedule,
        policy,
        0,
        _live_rows(found, index, labels),
        link_lost=found.link_lost,
        problem=found.problem,
        failed=found.failed,
        deadline_ms=None if live.deadline_s == math.inf else 1e3 * live.deadline_s,
        link=asdict(found.counts),
    )


def _pipelined_rows(
    found: Measured, net: IntegerNet, index: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[InferredSample]:
    fed = fed_timesteps(net, found.exits.timesteps)
    syn_ops = found.ledger.per_sample("syn_ops") if found.ledger else [0] * len(fed)
    return [
        InferredSample(
            sample=n,
            index=int(index[n]),
            label=int(labels[n]),
            prediction=int(found.exits.predictions[n]),
            timesteps=int(found.exits.timesteps[n]),
            edge_timesteps=int(fed[n]),
            payload_bits=int(found.payload_bits[n]),
            wire_bytes=int(found.wire_bytes[n]),
            syn_ops=int(syn_ops[n]),
            edge_s=float(found.edge_s[n]),
            roundtrip_s=float(found.roundtrip_s[n]),
            cloud_s=float(found.cloud_s[n]),
        )
        for n in range(len(fed))
    ]


def _live_rows(
    found: Live, index: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[InferredSample]:
    ran, ledger = found.samples, found.ledger
    syn_ops = extra = [0] * len(ran)
    if ledger is not None:
        needed = np.array([sample.timesteps for sample in ran])
        syn_ops = ledger.per_sample("syn_ops").tolist()
        extra = ledger.after(needed).per_sample("syn_ops").tolist()
    return [
        InferredSample(
            sample=n,
            index=int(index[n]),
            label=int(labels[n]),
            prediction=s.prediction,
            timesteps=s.timesteps,
            edge_timesteps=s.edge_timesteps if ledger is not None else 0,
            payload_bits=s.payload_bits,
            wire_bytes=s.wire_bytes,
            syn_ops=int(syn_ops[n]),
            edge_s=s.edge_s,
            roundtrip_s=s.roundtrip_s,
            cloud_s=s.cloud_s,
            source=s.verdict.source.value,
            extra_syn_ops=int(extra[n]),
            extra_bits=s.extra_bits,
        )
        for n, s in enumerate(ran)
    ]
