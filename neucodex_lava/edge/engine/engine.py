"""The edge part as one event-driven engine: what the `fused` Lava process runs in each step.

It knows nothing of Lava. In ``gated`` a call of `step` finishes one timestep of all nodes, in
``pipelined`` every node works on its own timestep, exactly as stock Lava's processes do: neurons
update with the sums of the step before, then synapses take up the spikes just sent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.engine.delays import DelayLine
from neucodex_lava.edge.engine.layout import Bytes, Ints, build
from neucodex_lava.edge.wiring import INPUT, NODE_COLUMNS, SYNAPSE_COLUMNS, Wiring
from neucodex_lava.errors import ConfigError, DataError, OverflowInRunError
from neucodex_lava.integer_net import SUM_MAX
from neucodex_lava.workers import Workers


class FusedEngine:
    """All nodes of an edge part, with state.

    Args:
        wiring: the edge part and its schedule.
        threads: threads that share the work of large layers; the helpers begin in the process that
            steps, with the first such layer.

    Attributes:
        wiring: the same.
        names: node names, in network order.
    """

    def __init__(self, wiring: Wiring, *, threads: int = 1) -> None:
        self.wiring = wiring
        net = wiring.net
        self.names = [node.name for node in net.nodes]
        self._frame_shape = net.input_shape[::-1]
        self._count_shapes = (
            (len(wiring.links), SYNAPSE_COLUMNS),
            (len(self.names), NODE_COLUMNS),
        )
        self._sizes = [node.size for node in net.nodes]
        neurons, self._synapses = build(net, Workers(threads))
        self._neurons = [neurons[name] for name in self.names]
        self._offsets = [wiring.offset(name) for name in self.names]
        self._spikes: dict[str, Bytes] = {}
        for name in (INPUT, *self.names):
            c, h, w = wiring.shape_of(name)
            slots = wiring.longest_wait(name) if wiring.pipelined else 1
            self._spikes[name] = np.zeros((slots, h, w, c), np.uint8)
        self._sources = [
            list(self._spikes[k.source].reshape(-1, *s.source_view))
            for k, s in zip(wiring.links, self._synapses)
        ]
        self._targets = [
            neurons[k.node].acc.reshape(s.target_view) for k, s in zip(wiring.links, self._synapses)
        ]
        self._node_of = [self.names.index(k.node) for k in wiring.links]
        self._incoming = [
            [i for i, k in enumerate(wiring.links) if k.node == name] for name in self.names
        ]
        self._lines = {
            k: DelayLine(
                c, self._synapses[k], net.shape_of(c.source), self._targets[k], wiring.timesteps
            )
            for k, (_, c) in enumerate(net.connections())
            if c.longest_delay
        }
        self._step = 0
        self._in_sample = 0
        self._sample = -1
        self._warm_up()

    def _warm_up(self) -> None:
        """Compile or load every kernel variant, so that forked processes inherit them."""
        counts = np.zeros(SYNAPSE_COLUMNS, np.int64)
        for synapses, acc in zip(self._synapses, self._targets):
            synapses.warm_up(acc)
        for k in self._lines:
            self._deliver(k, 0, counts, 0)
        for name, neurons in zip(self.names, self._neurons):
            neurons.step(self._spikes[name][0])
            neurons.reset()
            neurons.overflow.fill(0)
        for spikes in self._spikes.values():
            spikes.fill(0)

    def step(self, frame: NDArray[np.uint8], start: bool, links: Ints, nodes: Ints) -> None:
        """One Lava step.

        Args:
            frame: input spikes or values, (W, H, C).
            start: whether the frame is a sample's first (gated; pipelined counts for itself).
            links: counts of this step, (links, 4), overwritten.
            nodes: counts of this step, (nodes, 2), overwritten.

        Raises:
            ConfigError: counts of another shape.
            DataError: a frame of the wrong type or shape.
            OverflowInRunError: a synaptic sum left the 24-bit range.
        """
        if frame.shape != self._frame_shape or frame.dtype != np.uint8:
            raise DataError(
                f"frame is {frame.dtype} {frame.shape}, it must be uint8 (W, H, C) ="
                f" {self._frame_shape}"
            )
        if (links.shape, nodes.shape) != self._count_shapes:
            raise ConfigError(
                f"counts of shapes {links.shape} and {nodes.shape} are not of this engine",
                "take them from zero_counts",
            )
        links.fill(0)
        if self.wiring.pipelined:
            self._step_pipelined(frame, links, nodes)
        else:
            self._step_gated(frame, start, links, nodes)
        self._step += 1

    def _step_gated(self, frame: Bytes, start: bool, links: Ints, nodes: Ints) -> None:
        if start:
            self._sample += 1
            self._in_sample = 0
            for neurons in self._neurons:
                neurons.reset()
            for line in self._lines.values():
                line.clear()
        self._in_sample += 1
        np.copyto(self._spikes[INPUT][0], frame.transpose(1, 0, 2))
        for i in range(len(self.names)):
            for k in self._incoming[i]:
                self._deliver(k, 0, links[k], self._in_sample - 1)
            self._update(i, 0, nodes)

    def _step_pipelined(self, frame: Bytes, links: Ints, nodes: Ints) -> None:
        step = self._step
        slot = step % len(self._spikes[INPUT])
        np.copyto(self._spikes[INPUT][slot], frame.transpose(1, 0, 2))
        for i, name in enumerate(self.names):
            # Stock LIFReset clears by the clock alone, also while the pipeline fills.
            if (step - self._offsets[i]) % self.wiring.timesteps == 0:
                self._neurons[i].reset()
            self._update(i, step % len(self._spikes[name]), nodes)
        for k, link in enumerate(self.wiring.links):
            sent = (step - link.wait + 1) % len(self._sources[k])
            # The node updates with these sums in the next step.
            late = step + 1 - self._offsets[self._node_of[k]]
            self._deliver(k, sent, links[k], late % self.wiring.timesteps)

    def _deliver(self, k: int, slot: int, counts: Ints, t: int) -> None:
        """Synapses of one connection take up its source's spikes; `t` in the sample, from 0."""
        values, line = self._sources[k][slot], self._lines.get(k)
        if line is None:
            self._synapses[k].deliver(values, self._targets[k], counts)
        else:
            line.deliver(values, counts, t)

    def _update(self, i: int, slot: int, nodes: Ints) -> None:
        neurons = self._neurons[i]
        nodes[i, 0] = self._sizes[i]
        nodes[i, 1] = neurons.step(self._spikes[self.names[i]][slot])
        if neurons.overflow[0]:
            self._fail(i)

    def _fail(self, i: int) -> None:
        sample, timestep = self._sample, self._in_sample
        if self.wiring.pipelined:
            sample, timestep = divmod(self._step - self._offsets[i], self.wiring.timesteps)
            timestep += 1
        raise overflow_error(self.names[i], sample, timestep, int(self._neurons[i].overflow[2]))

    def spikes(self, name: str) -> Bytes:
        """Spikes a node sent in the step just done, uint8 (H, W, C); a view."""
        ring = self._spikes[name]
        return ring[(self._step - 1) % len(ring)]

    def potential(self, name: str) -> NDArray[np.int32]:
        """Potential of a node after the step just done and its reset, int32 (H, W, C); a view."""
        return self._neurons[self.names.index(name)].potential

    def current(self, name: str) -> NDArray[np.int32]:
        """Current of a node after the step just done, int32 (H, W, C); a view."""
        return self._neurons[self.names.index(name)].current

    def zero_counts(self, steps: int) -> tuple[Ints, Ints]:
        """Empty count arrays for so many steps: (steps, links, 4) and (steps, nodes, 2)."""
        return (
            np.zeros((steps, len(self._synapses), SYNAPSE_COLUMNS), np.int64),
            np.zeros((steps, len(self.names), NODE_COLUMNS), np.int64),
        )


def overflow_error(node: str, sample: int, timestep: int, value: int) -> OverflowInRunError:
    """The error for a value that left the 24-bit range; sample from 0, timestep from 1."""
    return OverflowInRunError(
        f"node '{node}', sample {sample}, timestep {timestep}: a synaptic sum or potential of"
        f" {value} is outside ±{SUM_MAX}",
        "the network's measured sum_bound does not hold for this input; use a smaller gain",
    )
