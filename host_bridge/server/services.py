"""Health (grpc.health.v1) and reflection, for load balancers and grpcurl."""

from __future__ import annotations

import importlib
from typing import Any

from host_bridge._grpc import SERVICE
from neucodex_lava.errors import MissingDependencyError


class HealthService:
    """What grpc.health.v1 answers, for the server as a whole and for the bridge.

    Args:
        servicer: grpcio-health-checking's.
        statuses: its enumeration of statuses.
    """

    def __init__(self, servicer: Any, statuses: Any) -> None:
        self._servicer = servicer
        self._statuses = statuses

    async def set_serving(self, serving: bool) -> None:
        """Say SERVING or NOT_SERVING from now on; whoever watches is told at once."""
        status = self._statuses.SERVING if serving else self._statuses.NOT_SERVING
        for name in ("", SERVICE):
            await self._servicer.set(name, status)


def add_services(server: Any) -> HealthService:
    """Add health and reflection to a gRPC asyncio server that has not started yet.

    Reflection names the services; the bridge's messages are plain bytes, not protobuf, so there is no
    descriptor of them (docs/formats.md says what they hold).

    Raises:
        MissingDependencyError: their packages are not installed.
    """
    try:
        health: Any = importlib.import_module("grpc_health.v1.health")
        pb2: Any = importlib.import_module("grpc_health.v1.health_pb2")
        pb2_grpc: Any = importlib.import_module("grpc_health.v1.health_pb2_grpc")
        reflection: Any = importlib.import_module("grpc_reflection.v1alpha.reflection")
    except ImportError as error:
        raise MissingDependencyError(
            "health and reflection services need grpcio-health-checking and grpcio-reflection",
            'pip install "neucodex-lava[cloud]"',
        ) from error
    servicer = health.aio.HealthServicer()
    pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(
        (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    return HealthService(servicer, pb2.HealthCheckResponse)
