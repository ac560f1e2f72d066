"""``neucodex infer --policy place``: the edge answers, or asks the cloud while the link holds."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from neucodex_lava.bundle import Bundle
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.halves import CalibrationHalf
from neucodex_lava.evaluation.inference import Inference, InferredSample
from neucodex_lava.evaluation.measured import LinkUse, connect
from neucodex_lava.evaluation.place.placement import (
    LinkPrices,
    Placement,
    no_site,
    placement,
    sites,
)
from neucodex_lava.evaluation.place.run import run_placed
from neucodex_lava.evaluation.samples import load_indexed_samples
from neucodex_lava.evaluation.serve import cut_bundle
from neucodex_lava.exits.policy import Action
from neucodex_lava.progress import Progress, silent

POLICY = "place"


def infer_place(
    bundle: Bundle,
    target: str,
    costs: LinkPrices,
    use: LinkUse | None = None,
    *,
    split: str | None = None,
    samples: int = 20,
    dataset: str | None = None,
    data_root: Path | None = None,
    progress: Progress = silent,
) -> Inference:
    """Run samples through Lava, and through a server where the policy asks it.

    While the link is down an exit head answers; each sample says who did.

    Args:
        bundle: the one that the server serves, calibrated.
        target: HOST:PORT.
        costs: of the link.
        use: of the link; an answer that does not come within its `timeout_s` means that it is down.
        split: cut of a base bundle.
        samples: test samples, 0 for all; those that the policy was calibrated on are left out.
        dataset, data_root: as `load_samples`.
        progress: called after every sample.

    Raises:
        ConfigError: no exit head before this cut, or nothing calibrated for it.
        NeucodexError: whatever else stands in the way, but for the link.
    """
    found = _placement(bundle, split, costs)
    site, c = found.site, found.site.configuration
    half = CalibrationHalf.of(found.calibration)
    inputs, labels, index = load_indexed_samples(
        bundle, samples, data_root=data_root, dataset=dataset, leave_out=[half] if half else []
    )
    # A head on the edge can answer: a lost link is tried again for as long as the run lasts.
    use = replace(use or LinkUse(timeout_s=5.0), patience_s=math.inf)
    client = connect(c, target, use)
    with ExitStack() as stack:
        session = stack.enter_context(EdgeSession(site.net, keep_ledger=True))
        run = run_placed(found, inputs, session, client, task="infer", progress=progress)
    placed, syn_ops = run.placed, run.edge.per_sample("syn_ops")
    rows = [
        InferredSample(
            sample=n,
            index=int(index[n]),
            label=int(labels[n]),
            prediction=int(placed.predictions[n]),
            timesteps=int(placed.timesteps[n]),
            edge_timesteps=int(placed.timesteps[n]),
            payload_bits=int(run.payload_bits[n]),
            wire_bytes=int(run.wire_bytes[n]),
            syn_ops=int(syn_ops[n]),
            edge_s=float(run.edge_s[n]),
            roundtrip_s=float(run.roundtrip_s[n]),
            cloud_s=float(run.cloud_s[n]),
            source="local" if placed.actions[n] == Action.LOCAL else "cloud",
        )
        for n in range(len(inputs))
    ]
    return Inference(
        target,
        c.model_id,
        site.net.timesteps,
        "gated",
        POLICY,
        0,
        rows,
        link_lost=run.link_lost,
        problem=run.problem,
    )


def _placement(bundle: Bundle, split: str | None, costs: LinkPrices) -> Placement:
    """The tables of the cut that is asked for."""
    cut = cut_bundle(bundle, split).cut
    here = [site for site in sites(bundle) if site.net.cut == cut]
    if not here:
        raise no_site(bundle.path)
    found = placement(here[0], costs)
    if found is None:
        raise ConfigError(
            f"exit policy '{here[0].name}' is not calibrated in bundle '{bundle.path}'",
            f"neucodex calibrate {bundle.path}",
        )
    return found
