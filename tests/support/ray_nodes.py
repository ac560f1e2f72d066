"""A Ray cluster of two nodes on this machine's loopback; to be imported before Ray. Tests only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Read when Ray is imported, hence here. Ray takes loopback for the address that other machines know
# this one by, unless it is to be alone.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Workers import this package from the checkout.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


@contextmanager
def two_nodes(cpus: int = 1) -> Iterator[str]:
    """The cluster's address; each node has `cpus` CPUs to give."""
    from ray.cluster_utils import Cluster

    node = {
        "num_cpus": cpus,
        "node_ip_address": "127.0.0.1",
        "object_store_memory": 80 << 20,
        "include_dashboard": False,
    }
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()
