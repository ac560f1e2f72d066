"""Two network namespaces with a shaped link between them, where root may make them."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from host_bridge.links import Link

EDGE, CLOUD = "192.0.2.1", "192.0.2.2"  # RFC 5737: addresses that are nobody's


@dataclass(frozen=True)
class Namespaces:
    """Names to use with ``ip netns exec``."""

    edge: str
    cloud: str

    @staticmethod
    def command(name: str, *argv: str) -> list[str]:
        """The command, as run inside."""
        return ["ip", "netns", "exec", name, *argv]


@contextmanager
def shaped(link: Link) -> Iterator[Namespaces]:
    """An edge's namespace and a cloud's, with `tbf` at either end; skips the test with the reason where
    that cannot be made. The machine's own network is not touched.
    """
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            pytest.skip(f"network namespaces need {tool}")
    tag = uuid.uuid4().hex[:8]
    made = Namespaces(f"nxe{tag}", f"nxc{tag}")
    try:
        for name in (made.edge, made.cloud):
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        pair = ("type", "veth", "peer", "name", "wire", "netns", made.cloud)
        _run("ip", "-n", made.edge, "link", "add", "wire", *pair)
        for name, address, bps in (
            (made.edge, EDGE, link.up_bps),
            (made.cloud, CLOUD, link.down_bps),
        ):
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "wire")
            _run("ip", "-n", name, "link", "set", "wire", "up")
            bucket = ("rate", f"{bps:.0f}bit", "burst", "3000", "latency", "1s")
            _run("tc", "-n", name, "qdisc", "add", "dev", "wire", "root", "tbf", *bucket)
        yield made
    finally:
        for name in (made.edge, made.cloud):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(argv[:4])}: {done.stderr.strip().splitlines()[-1:]}")
