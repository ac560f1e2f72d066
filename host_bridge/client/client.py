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
from host_bridge.client.connector import FIRST_WAIT_S, LONGEST_WAIT_S, Connector
from host_bridge.client.exchange import Exchange
from host_bridge.client.faults import Setback
from host_bridge.client.log import LinkCounts, SampleLog, StepReply, Written
from host_bridge.codecs import Code, Shape, check_shape, codec_for
from host_bridge.handshake import Open, Opened
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
    session is over. Start Lava before it: Lava forks, and a fork does not carry gRPC's threads over.

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
        security: what to trust and to show; by default a plain channel and no token.
        channels: connections shared with other clients of this process; else its own.

    Attributes:
        classes: length of the running sums; 0 before the session is open.
        gain: the readout's gain: y(t) = S_t / (gain * t).
        counts: what the session met on the way.

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
        try:
            check_shape(code_shape, code_bits)
        except ProtocolError as error:
            raise ConfigError(error.message) from error
        self.classes, self.gain = 0, math.nan
        self.counts = LinkCounts()
        self._hello = Open(
            model, code_shape, code_bits, t_max, library_versions(), deadline_ms=deadline_ms
        )
        self._patience_s = patience_s
        self._codec = codec_for(code_bits)
        self._own_channels = Channels(security) if channels is None else None
        shared = channels or self._own_channels
        assert shared is not None
        self._connector = Connector(servers, self._hello, shared, timeout_s)
        self._opened, self._closed = False, False
        self._exchange: Exchange | None = None
        self._log: SampleLog | None = None
        self._samples = 0
        self._losses, self._trouble_since = 0, math.inf
        self._first_loss: BridgeError | None = None
        self._failed_at: tuple[int, int] | None = None

    @property
    def target(self) -> str:
        """The server that the session is on; without a link the one that comes first."""
        return self._exchange.stream.target if self._exchange else self._connector.target

    @property
    def connected(self) -> bool:
        """Whether the session is open on a server, as far as is known."""
        return self._exchange is not None

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
            connected = self._connector.connect(self._patience_s)
        except Setback as setback:
            error = self._connector.explain(setback.error)
            if required or error is not setback.error:
                self.close()
                raise error from setback
            self._connector.start(FIRST_WAIT_S)
            return
        except BaseException:
            self.close()
            raise
        self._agree(connected.opened)
        self._exchange = Exchange(connected, self.counts)

    def start_sample(self) -> None:
        """Begin the next sample at timestep 1; ends a running one first."""
        self._check_open()
        if self._log is not None:
            self.end_sample()
        self._log = SampleLog(self._samples)
        if self._exchange is not None:
            self._exchange.begin()

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
        self.send(code)
        reply = self.receive()
        assert reply is not None, "no limit was set"
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
        payload = self._codec.pack(code, hello.code_bits)
        log.codes.append(Written(self._codec.id, payload, began))
        if self._exchange is not None:
            self._exchange.fill(log)
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
        while log.read == len(log.replies):
            if not self._listen(log, until):
                return None
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
        exchange = self._exchange
        if exchange is None:
            return 0
        sent_bytes = exchange.end(log)
        if exchange.drain is not None:
            self._leave(exchange)
        return sent_bytes

    def close(self) -> None:
        """End the session and the connection; may be called again and after any error."""
        self._closed, self._log = True, None
        exchange, self._exchange = self._exchange, None
        self._connector.stop()
        if exchange is not None:
            exchange.close()
        if self._own_channels is not None:
            self._own_channels.close()

    def _check_open(self) -> None:
        if not self._opened or self._closed:
            raise BridgeError("the session is not open", "make a new EdgeClient and open it")

    def _running(self) -> SampleLog:
        if self._log is None:
            raise ProtocolError("no sample is running", "call start_sample() before step()")
        return self._log

    def _listen(self, log: SampleLog, until: float) -> bool:
        """Do the next thing that may bring an answer; False when `until` comes first."""
        exchange = self._exchange
        try:
            if exchange is None:
                return self._reconnect(log, until)
            if not self._resend(exchange, log, until):
                return False
            within_s = math.inf if until == math.inf else until - time.monotonic()
            raw = exchange.stream.receive(within_s, self._where)
            if raw is None:
                return False
            if exchange.take(raw, log):
                self._losses, self._trouble_since = 0, math.inf
                self._first_loss = self._failed_at = None
                if len(log.replies) < len(log.codes):
                    exchange.fill(log)
            elif exchange.resend_at == -math.inf:
                exchange.fill(log)
            return True
        except Setback as setback:
            self._lose(setback, log)
            return True
        except BaseException as error:
            if exchange is not None:
                exchange.stream.abandon()
            if isinstance(error, BridgeError):
                self.close()
            raise

    def _resend(self, exchange: Exchange, log: SampleLog, until: float) -> bool:
        """Send again what a busy server did not take; False when `until` comes first."""
        if exchange.resend_at == -math.inf:
            return True
        self._trouble_since = min(self._trouble_since, time.monotonic())
        if time.monotonic() > self._trouble_since + self._patience_s:
            raise BridgeError(
                f"the cloud server at {exchange.stream.target} has been busy for "
                f"{self._patience_s:g} s at {self._where()}",
                "try again later",
                "RESOURCE_EXHAUSTED",
            )
        time.sleep(max(0.0, min(exchange.resend_at, until) - time.monotonic()))
        if time.monotonic() < exchange.resend_at:
            return False
        exchange.resend_at = -math.inf
        exchange.fill(log)
        return True

    def _reconnect(self, log: SampleLog, until: float) -> bool:
        """Wait for the session to be open again, and send the sample anew."""
        self._trouble_since = min(self._trouble_since, time.monotonic())
        patience = self._trouble_since + self._patience_s
        connected = self._connector.result(min(until, patience) - time.monotonic())
        if connected is None:
            if time.monotonic() >= patience:
                raise self._given_up()
            return False
        self.counts.reconnects += 1
        self._agree(connected.opened)
        self._exchange = Exchange(connected, self.counts)
        self._exchange.fill(log)
        return True

    def _lose(self, setback: Setback, log: SampleLog) -> None:
        """The stream is gone: begin to connect again, or give up."""
        exchange, self._exchange = self._exchange, None
        self._trouble_since = min(self._trouble_since, time.monotonic())
        at = (log.number, len(log.replies))
        # A tail that failed twice at the same timestep would fail a third time.
        failed_again = setback.error.status == "INTERNAL" and self._failed_at == at
        if setback.error.status == "INTERNAL":
            self._failed_at = at
        if exchange is not None:
            exchange.stream.abandon()
            wait_s = setback.retry_after_s
            if exchange.drain is not None:
                wait_s = max(wait_s, exchange.drain.retry_after_ms * 1e-3)
            if wait_s:
                self._connector.avoid(exchange.stream.target, wait_s)
        self._first_loss = self._first_loss or setback.error
        if failed_again or not self._patience_s:
            self.close()
            raise setback.error from setback
        first_wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**self._losses) if self._losses else 0.0
        self._losses = min(self._losses + 1, 16)
        self._connector.last_error = setback.error
        self._connector.start(first_wait_s)

    def _given_up(self) -> BridgeError:
        """What to raise when patience is over: what was lost, and why it did not come back."""
        last = self._connector.last_error
        first = self._first_loss or last or BridgeError(f"{self.target} has not answered")
        why = f": {last.message}" if last is not None and last is not first else ""
        tried = f"; tried again for {self._patience_s:g} s{why}"
        return type(first)(first.message + tried, first.hint, first.status)

    def _leave(self, exchange: Exchange) -> None:
        """Go where the server that drains is not."""
        assert exchange.drain is not None
        self._exchange = None
        exchange.close()
        wait_s = exchange.drain.retry_after_ms * 1e-3
        self._connector.avoid(exchange.stream.target, wait_s)
        self._connector.last_error = BridgeError(exchange.drain.message, status="UNAVAILABLE")
        self._connector.start()

    def _agree(self, opened: Opened) -> None:
        """Take over what the server says of itself; the next one must say the same."""
        if self.classes and (self.classes, self.gain) != (opened.classes, opened.gain):
            raise ProtocolError(
                f"a server with {opened.classes} classes and gain {opened.gain:g} has taken over from "
                f"one with {self.classes} and {self.gain:g}",
                status="DATA_LOSS",
            )
        self.classes, self.gain = opened.classes, opened.gain

    def _where(self) -> str:
        log = self._log
        return f"sample {log.number}, timestep {len(log.replies) + 1}" if log else ""
