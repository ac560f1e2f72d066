"""The peers' blocks, run in their own environment: commands on stdin, answers on stdout, as JSON lines.

``benchmarks/train.py`` starts this with the Python of .venv-peers. Each block is the fastest way that
its project documents on a CPU: convolution and batch norm over time and batch at once, then the neuron,
with tau = 2 and a hard reset to zero.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.train_block import (
    LAYOUTS,
    TIMESTEPS,
    Step,
    conv_norm,
    output_gradient,
    peak_bytes,
    seconds,
    spikes,
)


def snntorch(layout: str) -> Step:
    """`Leaky`, called at each timestep, as in snnTorch's tutorials; ATan surrogate."""
    from snntorch import Leaky

    x, grad = spikes(layout), output_gradient(layout)
    conv, norm = conv_norm(layout)
    neuron = Leaky(beta=0.5, reset_mechanism="zero")
    parameters = [*conv.parameters(), *norm.parameters(), x]

    def step() -> None:
        drive = norm(conv(x)).unflatten(0, (TIMESTEPS, -1))
        membrane, out = neuron.reset_mem(), []
        for t in range(TIMESTEPS):
            spike, membrane = neuron(drive[t], membrane)
            out.append(spike)
        torch.stack(out).flatten(0, 1).backward(grad)
        _clear(parameters)

    return step


def spikingjelly(layout: str) -> Step:
    """Multi-step mode with the torch backend (cupy is for GPUs); ATan surrogate, reset detached."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    x, grad = spikes(layout), output_gradient(layout)
    conv, norm = conv_norm(layout)
    lif = neuron.LIFNode(
        tau=2.0, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True,
        step_mode="m", backend="torch",
    )  # fmt: skip
    parameters = [*conv.parameters(), *norm.parameters(), x]

    def step() -> None:
        out = lif(norm(conv(x)).unflatten(0, (TIMESTEPS, -1)))
        out.flatten(0, 1).backward(grad)
        functional.reset_net(lif)
        _clear(parameters)

    return step


PEERS: dict[str, Callable[[str], Step]] = {"snntorch": snntorch, "spikingjelly": spikingjelly}


def _clear(parameters: list[torch.Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the peers print does not belong to the answers
    torch.set_num_threads(int(sys.argv[1]))
    steps: dict[tuple[str, str], Step] = {}
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        peer, layout = command["peer"], command["layout"]
        assert layout in LAYOUTS
        try:
            if (peer, layout) not in steps:
                steps[peer, layout] = PEERS[peer](layout)
            step = steps[peer, layout]
            if command["do"] == "time":
                answer: dict[str, Any] = {"value": seconds(step)}
            elif command["do"] == "memory":
                answer = {"value": peak_bytes(step)}
            else:
                answer = {"value": version(peer), "torch": torch.__version__}
        except Exception as failure:  # the parent says which peer failed, and why
            answer = {"error": f"{type(failure).__name__}: {failure}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
