"""serve, infer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command, DataRoot
from neucodex_lava.cli.link_options import LinkOptions
from neucodex_lava.cli.policy_options import PolicyOptions
from neucodex_lava.cli.security_options import ClientSecurityOptions, ServerSecurityOptions
from neucodex_lava.cli.session_limits import SessionLimits


@dataclass(frozen=True, kw_only=True)
class Serve(ServerSecurityOptions, SessionLimits, Command):
    """Serve the cloud tails of bundles over gRPC until interrupted.

    SIGTERM or Ctrl-C finishes the samples that run, a second one ends at once; SIGHUP reads the bundles
    again.
    """

    bundles: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="BUNDLE [BUNDLE ...]")]
    """Folders of bundles (split, or base with --split)."""
    split: str | None = None
    """Cut base bundles at this split point; 'input' runs everything in the cloud."""
    host: str = "127.0.0.1"
    """Address to listen on; another than loopback needs TLS and tokens or client certificates."""
    port: int = 50051
    """TCP port; 0 takes a free one."""
    device: str = "cpu"
    """torch device, cpu or cuda."""
    metrics_port: int | None = None
    """Answer Prometheus on this port of 127.0.0.1; 0 takes a free one (the log says which)."""
    log_format: Literal["text", "json"] = "text"
    """Of the log on stderr: text, or json with one object a line."""
    grace: float = 10.0
    """Seconds that running samples get to end, after SIGTERM or Ctrl-C."""

    def run(self) -> int:
        """Serve."""
        import json
        import sys

        from host_bridge import serve_forever
        from host_bridge.server.logs import configure_logs
        from neucodex_lava.evaluation.serve import ServedFolders

        served = ServedFolders(self.bundles, split=self.split, device=self.device)
        configure_logs(self.log_format)

        def listening(host: str, port: int) -> None:
            models = list(served.tails)
            if self.json:
                ready = {"host": host, "port": port, "model": models[0]}
                more = {"models": models} if len(models) > 1 else {}
                sys.stdout.write(json.dumps(ready | more) + "\n")
                sys.stdout.flush()
                return
            for folder, tail in served.by_folder.items():
                shape = "x".join(map(str, tail.code_shape))
                self.say(
                    f"serving {folder} on {host}:{port}: codes of {shape} x"
                    f" {tail.code_bits} bit, {tail.classes} classes; Ctrl-C ends it"
                )

        serve_forever(
            served.tails,
            self.host,
            self.port,
            on_listening=listening,
            reload=served.reload,
            limits=self.limits(),
            security=self.security(),
            services=True,
            metrics_port=self.metrics_port,
            grace_s=self.grace,
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class Infer(ClientSecurityOptions, LinkOptions, PolicyOptions, Command):
    """Classify test samples: the edge part in Lava here, the tail on a server.

    The exit policy decides after every timestep whether to stop.
    """

    bundle: Positional[Path]
    """Folder of the bundle that the server serves."""
    cloud: str = "127.0.0.1:50051"
    """HOST:PORT of the server, or of several with commas between them: one that fails is replaced."""
    split: str | None = None
    """Cut a base bundle at this split point; 'input' sends the encoded input."""
    samples: int = 20
    """Test samples to run; 0 for all."""
    policy: str = "confidence"
    """Exit policy: confidence, entropy, patience, fixed, or one that neucodex calibrate keeps in the
    bundle, or several: confidence+patience stops when both do, confidence/patience when either does;
    place: an exit head on the edge answers, or the cloud, whichever is worth its cost."""
    schedule: Literal["gated", "pipelined"] = "gated"
    """Of the edge: gated (needs gated neurons) or pipelined (as stock neurons run)."""
    timeout: float = 5.0
    """Seconds of silence after which the link counts as lost."""
    retry_for: Annotated[float, tyro.conf.arg(metavar="S")] = 30.0
    """Seconds that a sample waits for a lost link to come back, without --deadline."""
    deadline: Annotated[float | None, tyro.conf.arg(metavar="MS")] = None
    """Milliseconds that a sample may take, the simulation of the edge included; after them the best
    answer so far is the result, else an exit head's on the edge, else none. By default no limit."""
    speculate: bool = False
    """Compute and send the next timestep before the answer to this one has come."""
    in_flight: int = 1
    """Samples at once, with --split input."""
    codec: Literal["auto", "packed", "zstd", "ans", "ans-conditioned", "addresses"] = "packed"
    """How codes are written; auto takes the soonest there over --link or at --link-mbit-s, and
    without either the smallest."""
    dataset: str | None = None
    """Another dataset of the same shape and classes instead of the bundle's own."""
    data_root: DataRoot = None
    """Folder with the datasets; by default the environment variable NEUCODEX_DATA."""
    show: Annotated[int, tyro.conf.arg(metavar="N")] = 10
    """Print the first N samples one by one."""

    def run(self) -> int:
        """Infer."""
        from host_bridge.handshake import MAX_WAIT_MS
        from neucodex_lava.config import require
        from neucodex_lava.evaluation.infer import infer
        from neucodex_lava.evaluation.live import LiveOptions
        from neucodex_lava.evaluation.measured import LinkUse

        costs, rate_bps = self.costs(), self.rate_bps()
        if self.policy != "place":
            idle = self.priced()
            require(not idle, f"only --policy place weighs {', '.join(idle)}", "leave them out")
            require(
                rate_bps is None or self.codec == "auto",
                "--link and --link-mbit-s describe the link to --policy place and --codec auto",
                "leave them out, or pass --codec auto",
            )
        live = LiveOptions(
            math.inf if self.deadline is None else 1e-3 * self.deadline, self.speculate
        )
        limited = live.deadline_s < math.inf
        use = LinkUse(
            timeout_s=self.timeout,
            patience_s=math.inf if limited else self.retry_for,
            codec=self.codec,
            link_rate_bps=rate_bps if self.codec == "auto" else None,
            security=self.security(),
            deadline_ms=min(max(1, round(1e3 * live.deadline_s)), MAX_WAIT_MS) if limited else 0,
        )
        with self.progress() as progress:
            found = infer(
                self.bundle,
                self.cloud,
                split=self.split,
                samples=self.samples,
                policy=self.policy,
                numbers=self.numbers(),
                costs=costs,
                use=use,
                live=live,
                in_flight=self.in_flight,
                schedule=self.schedule,
                dataset=self.dataset,
                data_root=self.data_root,
                progress=progress,
            )
        self.output(found.to_dict(), found.table(self.show))
        return 0
