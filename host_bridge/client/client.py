"""The edge's end of the bridge: one session that survives its connection, called from a plain loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from host_bridge._grpc import library_versions
from host_bridge.address import parse_address
from host_bridge.client.channels import Channels
from host_bridge.client.connector import Connector
from host_bridge.client.link import SessionLink
from host_bridge.client.log import LinkCounts, SampleLog, StepReply, Written
from host_bridge.codecs import Code, Coder, Shape, Tables, check_shape
from host_bridge.handshake import MAX_WAIT_MS, Open
from host_bridge.messages import MAX_TIMESTEPS
from host_bridge.security import ClientSecurity
from neucodex_lava.errors import BridgeError, ConfigError, ProtocolError

DEFAULT_TIMEOUT_S: Final = 5.0
DEFAULT_PATIENCE_S: Final = 30.0


class EdgeClient:
    """One inference session; any number of samples, one after another. For one thread at a time::

        with EdgeClient("127.0.0.1:50051", model=sha256, code_shape=(1, 2, 2), t_max=4) as client:
            for codes in samples:
                client.start_sample()
                for code in codes:
                    reply = client.step(code)
                client.end_sample()

    The running sample's codes are kept here until it ends. Where a stream breaks, the session is opened
    again, there or on the next server, the codes are sent again, and the sums that come back must equal
    those already known; whoever calls `step` notices nothing but the time it took. After an error the
    session is over, unless the cloud failed at the same timestep twice (status INTERNAL or
    OUT_OF_RANGE): that ends the sample, and `start_sample` begins the next. Start Lava before it: Lava
    forks, and a fork does not carry gRPC's threads over.

    Args:
        target: host:port of the server; or `targets`.
        model: what both sides must run: the bundle's sha256 or a deployment id, 64 hex digits.
        code_shape: (C, H, W) of the codes.
        t_max: most timesteps a sample gets.
        code_bits: bits a value; 1 for spikes, up to 8 for graded input.
        timeout_s: longest silence while an answer is awaited, in seconds; after it the link is lost.
        patience_s: how long a sample waits for a lost link to come back, or for a busy server, before
            that is an error, in seconds; 0 makes every loss one.
        targets: several servers of the same bundle; a hash ring on the session's number picks.
        deadline_ms: a code that waited longer for its turn on the server is not run; 0 for none.
        coding, codec, link_rate_bps: how codes are written, as `codecs.Coder` takes them.
        security: what to trust and to show; by default a plain channel and no token.
        channels: connections shared with other clients of this process; else its own.

    Attributes:
        timeout_s: as given.

    Raises:
        ConfigError: a malformed target or an argument out of range.
    """

    def __init__(
        self,
        target: str = "",
        *,
        model: str,
        code_shape: Shape,
        t_max: int,
        code_bits: int = 1,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        patience_s: float = DEFAULT_PATIENCE_S,
        targets: Sequence[str] = (),
        deadline_ms: int = 0,
        coding: Tables | None = None,
        codec: str = "packed",
        link_rate_bps: float | None = None,
        security: ClientSecurity | None = None,
        channels: Channels | None = None,
    ) -> None:
        servers = tuple(dict.fromkeys(targets or (target,)))
        for server in servers:
            parse_address(server)
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            raise ConfigError(f"timeout_s is {timeout_s}, expected a positive number of seconds")
        if not patience_s >= 0:
            raise ConfigError(f"patience_s is {patience_s}, expected 0 or more seconds")
        if not 1 <= t_max <= MAX_TIMESTEPS:
            raise ConfigError(f"t_max is {t_max}, expected 1..{MAX_TIMESTEPS}")
        if not 0 <= deadline_ms <= MAX_WAIT_MS:
            raise ConfigError(f"deadline_ms is {deadline_ms}, expected 0..{MAX_WAIT_MS}")
        try:
            check_shape(code_shape, code_bits)
        except ProtocolError as error:
            raise ConfigError(error.message) from error
        self.timeout_s = timeout_s
        self._coder = Coder(code_shape, code_bits, coding, codec, link_rate_bps)
        tables = coding if codec != "packed" else None
        self._hello = Open(
            model,
            code_shape,
            code_bits,
            t_max,
            library_versions(),
            coding=tables.sha256 if tables is not None else None,
            deadline_ms=deadline_ms,
        )
        self._own_channels = Channels(security) if channels is None else None
        shared = channels or self._own_channels
        assert shared is not None
        self._link = SessionLink(Connector(servers, self._hello, shared, timeout_s), patience_s)
        self._opened, self._closed = False, False
        self._log: SampleLog | None = None
        self._samples = 0

    @property
    def target(self) -> str:
        """The server that the session is on; without a link the one that comes first."""
        return self._link.target

    @property
    def connected(self) -> bool:
        """Whether the session is open on a server, as far as is known."""
        return self._link.exchange is not None

    @property
    def over(self) -> bool:
        """Whether the session has ended for good: closed, or after an error."""
        return self._closed

    @property
    def classes(self) -> int:
        """Length of the running sums; 0 before the session is open."""
        return self._link.classes

    @property
    def gain(self) -> float:
        """The readout's gain: y(t) = S_t / (gain * t); NaN before the session is open."""
        return self._link.gain

    @property
    def counts(self) -> LinkCounts:
        """What the session met on the way."""
        return self._link.counts

    def __enter__(self) -> EdgeClient:
        if not self._opened:
            self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, *, required: bool = True) -> None:
        """Connect and agree with the server on the bundle.

        Args:
            required: whether a server that is not there is an error; otherwise connecting goes on in
                the background.

        Raises:
            BridgeError: nobody there, no answer in time, or another bundle is served.
            ProtocolError: the answer is malformed, or shape or timesteps do not fit the bundle.
        """
        if self._opened or self._closed:
            raise BridgeError("the session has been opened before", "make a new EdgeClient")
        self._opened = True
        try:
            self._link.open(required=required)
        except BaseException:
            self.close()
            raise

    def start_sample(self) -> None:
        """Begin the next sample at timestep 1; ends a running one first.

        Raises:
            BridgeError: the session is not open, or was refused for good while it was opened again.
        """
        self._check_open()
        if self._log is not None:
            self.end_sample()
        self._log = SampleLog(self._samples)
        try:
            self._link.begin()
        except BridgeError:
            self.close()
            raise

    def step(self, code: Code) -> StepReply:
        """Send the next timestep's code and wait for the running sums.

        Args:
            code: uint8, shape `code_shape`, values 0..2^code_bits-1.

        Raises:
            ProtocolError: the code has another shape, type or range; more than `t_max` timesteps; no
                sample started; the server's answer is malformed or it refuses; or a server that took
                the sample over gives other sums than the one before it.
            BridgeError: the connection was lost or the answer is overdue, and trying again has not
                helped within `patience_s`.
        """
        timestep = self.send(code)
        while True:
            reply = self.receive()
            assert reply is not None, "no limit was set"
            # Answers that an earlier `receive` gave up on come first.
            if reply.timestep == timestep:
                return reply

    def send(self, code: Code) -> int:
        """Send the next timestep's code, or keep it until the server takes it; waits for nothing.

        Several may be sent before `receive` is asked for their answers.

        Args:
            code: as `step`.

        Returns:
            Its timestep, from 1.

        Raises:
            ProtocolError: as `step`, of the code and the sample.
        """
        self._check_open()
        log = self._running()
        began = time.perf_counter()
        hello = self._hello
        if len(log.codes) >= hello.t_max:
            raise ProtocolError(f"timestep {len(log.codes) + 1} is beyond t_max {hello.t_max}")
        if code.shape != hello.code_shape:
            raise ProtocolError(f"code of shape {code.shape}, the session has {hello.code_shape}")
        log.codes.append(Written(*self._coder.encode(code, log.previous), began))
        if self._hello.coding is not None:
            # Kept as it is now: the caller may write its next code into the same array.
            log.previous = code.copy()
        self._link.fill(log)
        return len(log.codes)

    def receive(self, until: float = math.inf) -> StepReply | None:
        """Wait for the next answer that has not been taken yet.

        Args:
            until: for how long, in seconds of `time.monotonic()`. The session may be asked again, or
                the sample ended: an answer that comes too late is dropped.

        Returns:
            The answer of the earliest timestep that has none yet, or None when it did not come in time.

        Raises:
            ProtocolError, BridgeError: as `step`.
        """
        self._check_open()
        log = self._running()
        if log.read == len(log.codes):
            raise ProtocolError("no code is waiting for an answer", "call send() before receive()")
        try:
            while log.read == len(log.replies):
                if not self._link.listen(log, until):
                    return None
        except BridgeError:
            if not log.failed:
                self.close()
            raise
        reply = log.replies[log.read]
        log.read += 1
        return reply

    def end_sample(self) -> int:
        """Tell the server that the edge has stopped; nothing is waited for.

        Returns:
            The message's bytes on the wire, modelled as in `StepReply`; 0 when there was none to send.
        """
        log, self._log = self._log, None
        if log is None or not log.codes:
            # A sample without codes was never heard of, so its number is free.
            return 0
        self._samples += 1
        return self._link.end(log)

    def close(self) -> None:
        """End the session and the connection; may be called again and after any error."""
        self._closed, self._log = True, None
        self._link.close()
        if self._own_channels is not None:
            self._own_channels.close()

    def _check_open(self) -> None:
        if not self._opened or self._closed:
            raise BridgeError("the session is not open", "make a new EdgeClient and open it")

    def _running(self) -> SampleLog:
        if self._log is None:
            raise ProtocolError("no sample is running", "call start_sample() before step()")
        return self._log
