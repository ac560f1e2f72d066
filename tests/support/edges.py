"""Edge clients for tests of links: quick to lose patience, and the sums of a whole sample."""

from __future__ import annotations

from host_bridge import EdgeClient


def edge(target, tail, **changes):
    arguments = {
        "model": tail.model,
        "code_shape": tail.code_shape,
        "t_max": tail.t_max,
        "timeout_s": 5.0,
        "patience_s": 20.0,
    } | changes
    if isinstance(target, list):
        return EdgeClient(targets=target, **arguments)
    return EdgeClient(target, **arguments)


def infer(client, codes):
    client.start_sample()
    rows = [client.step(code).sums.tolist() for code in codes]
    client.end_sample()
    return rows
