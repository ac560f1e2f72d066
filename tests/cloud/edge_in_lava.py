"""An edge of the main environment: a bundle's golden inputs through Lava, every timestep's running sums
from the cloud. Run by test_socket.py as ``python edge_in_lava.py BUNDLE HOST:PORT OUT.npy``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from host_bridge import EdgeClient
from neucodex_lava.bundle import load_bundle
from neucodex_lava.edge.session import EdgeSession


def main(folder: Path, address: str, out: Path) -> None:
    bundle = load_bundle(folder)
    net, inputs = bundle.net, bundle.golden.inputs
    sums = np.zeros(bundle.golden.sums.shape, np.int64)
    # Lava first: it forks, and a fork does not carry gRPC's threads over.
    with (
        EdgeSession(net) as edge,
        EdgeClient(
            address,
            model=bundle.sha256,
            code_shape=net.code_shape,
            code_bits=net.code_bits,
            t_max=net.timesteps,
            timeout_s=60.0,
        ) as client,
    ):
        for n in range(len(inputs)):
            edge.start_sample()
            client.start_sample()
            for t in range(net.timesteps):
                code = edge.step(inputs[n, ..., t]).code
                sums[n, :, t] = client.step(code).sums
            client.end_sample()
    np.save(out, sums)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
