"""The cloud tail on Ray Serve: replicas that come and go with the number of open sessions.

    serve run deploy/ray/serve.yaml

An edge's stream goes to one replica and stays there, where the same sessions and batches run as in
``neucodex serve``; where a replica goes, the edge opens the session on another and sends the running
sample's codes again. Ray carries each message through a process of its own, which costs milliseconds
(docs/howto/ray.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ray import serve

from host_bridge._grpc import METHOD, SERVICE, grpc
from host_bridge.security.server import ServerSecurity
from host_bridge.server.conversation import Conversation
from host_bridge.server.hub import Hub
from host_bridge.server.limits import Limits
from host_bridge.server.server import INLINE_BELOW_S
from neucodex_lava.deploy.ray_call import RayCall
from neucodex_lava.errors import BridgeError, ConfigError
from neucodex_lava.evaluation.serve import open_tail

ADD_BRIDGE: Final = "neucodex_lava.deploy.ray_serve.add_bridge"
"""What Ray Serve's ``grpc_servicer_functions`` must name."""


@dataclass(frozen=True)
class TailOptions:
    """Arguments of the application, as its configuration file or `serve.run` gives them.

    Args:
        bundle: folder of a bundle, on every node.
        split: where a base is cut.
        device: torch device of each replica.
        tokens: file of ``name:sha256 of the token`` lines, on every node; edges must show one.
        open_to_all: let anyone in. Ray Serve's gRPC port listens on all addresses of a node,
            unencrypted, so that one of the two must be said.
        min_replicas, max_replicas: bounds of the autoscaling.
        sessions: open sessions a replica should have; more replicas are started beyond it.
        cpus, gpus: that a replica takes.

    Raises:
        ConfigError: neither tokens nor `open_to_all`, or a number out of range.
    """

    bundle: str
    split: str | None = None
    device: str = "cpu"
    tokens: str | None = None
    open_to_all: bool = False
    min_replicas: int = 1
    max_replicas: int = 4
    sessions: int = 32
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.tokens is None and not self.open_to_all:
            raise ConfigError(
                "Ray Serve listens on all addresses of a node, and nothing would keep anyone out",
                "give tokens: FILE, or open_to_all: true where the network itself is closed",
            )
        if not 1 <= self.min_replicas <= self.max_replicas or self.sessions < 1:
            raise ConfigError(
                f"{self.min_replicas} to {self.max_replicas} replicas of {self.sessions} sessions",
                "expected 1 <= min_replicas <= max_replicas, and 1 session or more",
            )


class TailReplica:
    """One replica: a tail, and the conversations it holds.

    Args:
        options: of the application.

    Raises:
        NeucodexError: the bundle or the tokens cannot be read on this node.
    """

    def __init__(self, options: TailOptions) -> None:
        tail = open_tail(Path(options.bundle), split=options.split, device=options.device)
        tokens = None if options.tokens is None else Path(options.tokens)
        self._security = ServerSecurity(tokens=tokens)
        self._hub = Hub(tail, Limits(max_sessions=2 * options.sessions), INLINE_BELOW_S)
        self._reaper: asyncio.Task[None] | None = None

    async def Infer(self, requests: Any, grpc_context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """One session's stream; the name is the wire's method, the argument's Ray's."""
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._hub.reap())
        call = RayCall(requests, grpc_context)
        try:
            peer = self._security.authorise(call.invocation_metadata(), call.auth_context())
        except BridgeError as error:
            conversation = Conversation(self._hub, call, call.peer())
            conversation.end(error)
        else:
            conversation = Conversation(self._hub, call, peer)
        async for message in call.answers(conversation):
            yield message


def add_bridge(_servicer: Any, server: Any) -> None:
    """Make the bridge's method known to Ray Serve's gRPC proxy, which routes it to a replica."""
    method = grpc().stream_stream_rpc_method_handler(None)
    handler = grpc().method_handlers_generic_handler(SERVICE, {METHOD: method})
    server.add_generic_rpc_handlers((handler,))


def tail_app(args: dict[str, Any] | TailOptions) -> Any:
    """The application, from `TailOptions` or a mapping of the same names.

    Raises:
        ConfigError: an unknown name, or as `TailOptions`.
    """
    if isinstance(args, TailOptions):
        options = args
    else:
        try:
            options = TailOptions(**args)
        except TypeError as error:
            raise ConfigError(f"the application's arguments: {error}") from error
    deployment: Any = serve.deployment(
        TailReplica,
        name="tail",
        max_ongoing_requests=2 * options.sessions,
        max_queued_requests=4 * options.sessions,
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": options.sessions,
        },
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
    )
    return deployment.bind(options)
