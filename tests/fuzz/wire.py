"""Thousands of damaged wire messages: only clear errors, no traceback to anyone, memory bounded.

    make fuzz                                    # 100,000 messages
    python tests/fuzz/wire.py --messages 2000 --seed 7 --json
    python tests/fuzz/wire.py --seed 7 --case 123    # one of them again

They go through `messages.decode`, the handshake, every codec's decoder, the server's `Session`, and
some of them over a real socket into a real server. A case that ends otherwise than it may is reported
with the number that makes it again.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import logging
import queue
import random
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from wire_material import BITS, SHAPES, FuzzTail, Material, damaged, damaged_json

from host_bridge import serving
from host_bridge.codecs import Decoder
from host_bridge.messages import (
    HEADER_BYTES,
    MAX_JSON_BYTES,
    Kind,
    decode,
    encode,
    unpack_busy,
    unpack_logits,
)
from host_bridge.server.bundle import ServedBundle
from host_bridge.server.session import Session
from host_bridge.server.step import Step, run_steps
from neucodex_lava.errors import NeucodexError, ProtocolError

LIMIT = 10_000
SOCKET_SHARE = 0.03
EXTRA_MB = 96
"""How much more memory the whole may take than it had before its first case."""


class Fuzzer:
    """Runs cases by their number; the same number and seed make the same case."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.material = Material()
        self.bundles = {
            shape: {FuzzTail.model: ServedBundle(FuzzTail(shape, self.material.tables[shape]))}
            for shape in SHAPES
        }
        self.decoders = {
            shape: Decoder(shape, BITS[shape], self.material.tables[shape]) for shape in SHAPES
        }

    def case(self, number: int) -> tuple[str, int, str]:
        """Its target, how many messages it was, and what came of it."""
        rng = random.Random(f"{self.seed}:{number}")
        target: Callable[[random.Random], tuple[int, str]] = rng.choice(
            [self.message, self.handshake, self.codec, self.codec, self.logits, self.session]
        )
        try:
            count, outcome = target(rng)
        except ProtocolError as error:
            count, outcome = 1, "refused"
            _check_line(error)
        return target.__name__, count, outcome

    def message(self, rng: random.Random) -> tuple[int, str]:
        raw = damaged(rng, self.material.any_message(rng))
        assert encode(decode(raw, LIMIT)) == raw
        return 1, "read"

    def handshake(self, rng: random.Random) -> tuple[int, str]:
        kind, payloads = rng.choice(list(self.material.handshakes.items()))
        payload = rng.choice(payloads)
        bad = (
            damaged_json(rng, payload)
            if rng.random() < 0.7
            else damaged(rng, bytes(HEADER_BYTES) + payload)[HEADER_BYTES:]
        )
        found = kind.from_bytes(bad)  # pyright: ignore
        again = found.to_bytes()
        assert len(again) <= MAX_JSON_BYTES
        assert kind.from_bytes(again) == found  # pyright: ignore
        return 1, "read"

    def codec(self, rng: random.Random) -> tuple[int, str]:
        shape = rng.choice(SHAPES)
        codec, payload, before = rng.choice(self.material.payloads[shape])
        if rng.random() < 0.2:
            codec = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 255])
        if rng.random() < 0.2:
            before = None if before is not None else self.material.codes[shape][0, 0]
        bad = damaged(rng, bytes(HEADER_BYTES) + payload)[HEADER_BYTES:]
        if rng.random() < 0.1:
            bad = rng.randbytes(rng.choice([0, 1, 10, 1000, 20_000]))
        code = self.decoders[shape].decode(codec, bad, before)
        assert code.shape == shape
        assert code.dtype == np.uint8
        assert code.max() < 1 << BITS[shape]
        return 1, "read"

    def logits(self, rng: random.Random) -> tuple[int, str]:
        payload = rng.randbytes(rng.choice([0, 3, 4, 43, 44, 44, 44, 45, 1000]))
        if rng.random() < 0.1:
            assert unpack_busy(payload) >= 0
        sums, seconds = unpack_logits(payload, 10)
        assert sums.dtype == np.int64
        assert np.abs(sums).max() <= 2**24
        assert seconds >= 0
        return 1, "read"

    def session(self, rng: random.Random) -> tuple[int, str]:
        shape = rng.choice(SHAPES[:4])
        session = Session(self.bundles[shape], MAX_JSON_BYTES, max_ahead=rng.choice([1, 3]))
        tail = self.bundles[shape][FuzzTail.model].tail
        raws = self.spoilt(rng, shape)
        for count, raw in enumerate(raws, 1):
            try:
                self._receive(session, tail, raw)
            except NeucodexError as error:
                _check_line(error)
                said, reason = session.refusal(error)
                assert decode(said, LIMIT).kind is Kind.ERROR
                assert hasattr(grpc.StatusCode, reason.status), reason
                session.free()
                return count, f"refused {reason.status}"
            if session.closed:
                return count, "closed"
        session.free()
        return len(raws), "left open"

    def spoilt(self, rng: random.Random, shape: tuple[int, int, int]) -> list[bytes]:
        """A conversation in which something is wrong: damaged, doubled, missing or out of order."""
        raws = self.material.conversation(rng, shape)
        for _ in range(rng.choice([1, 1, 2])):
            at = rng.randrange(len(raws))
            way = rng.randrange(5)
            if way == 0:
                del raws[at]
            elif way == 1:
                raws.insert(rng.randrange(len(raws) + 1), raws[at])
            elif way == 2:
                raws.insert(at, self.material.any_message(rng))
            else:
                raws[at] = damaged(rng, raws[at])
            raws = raws or [b""]
        return raws

    def _receive(self, session: Session, tail: Any, raw: bytes) -> None:
        answer = session.receive(session.read(raw))
        while isinstance(answer, Step):
            run_steps(tail, [answer])
            said = session.finish(answer)
            assert said is None or decode(said, LIMIT).kind is Kind.LOGITS
            answer = session.next_step()
        assert answer is None or isinstance(decode(answer, LIMIT).kind, Kind)

    def over_a_socket(self, messages: int) -> tuple[Counter[str], list[dict[str, Any]]]:
        """The same conversations, and plain noise, sent to a real server."""
        outcomes: Counter[str] = Counter()
        bad: list[dict[str, Any]] = []
        shape, sent, number = SHAPES[1], 0, 0
        log = _Log()
        logging.getLogger("host_bridge").addHandler(log)
        tail = FuzzTail(shape, self.material.tables[shape])
        with serving(tail) as address, grpc.insecure_channel(address) as channel:
            method = channel.stream_stream("/neucodex.v1.Bridge/Infer")
            while sent < messages:
                number += 1
                rng = random.Random(f"{self.seed}:socket:{number}")
                raws = self.spoilt(rng, shape)
                if rng.random() < 0.1:
                    raws = [rng.randbytes(rng.choice([0, 1, 29, 5000, 100_000])) for _ in range(3)]
                sent += len(raws)
                said, status = _converse(method, raws)
                outcomes[f"socket {status}"] += 1
                text = b"".join(said).decode("latin-1") + status
                if (
                    "Traceback" in text
                    or ".py" in text
                    or status in ("UNKNOWN", "DEADLINE_EXCEEDED")
                ):
                    bad.append({"case": f"socket {number}", "error": text[-300:]})
            good = self.material.conversation(random.Random(1), shape)
            if (wrong := _unanswered(method, good)) is not None:
                bad.append({"case": "socket afterwards", "error": wrong})
        logging.getLogger("host_bridge").removeHandler(log)
        bad += [{"case": "socket log", "error": line} for line in log.tracebacks]
        outcomes["socket messages"] = sent
        return outcomes, bad


class _Log(logging.Handler):
    """Keeps what a server logged with a traceback: of hostile messages it should never."""

    def __init__(self) -> None:
        super().__init__()
        self.tracebacks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.tracebacks.append(record.getMessage() + "\n" + self.format(record))


def _converse(method: Any, raws: list[bytes]) -> tuple[list[bytes], str]:
    call = method(iter(raws), timeout=20)
    said: list[bytes] = []
    try:
        said.extend(call)
    except grpc.RpcError as error:
        said.append((error.details() or "").encode())
        return said, error.code().name
    return said, call.code().name


def _unanswered(method: Any, raws: list[bytes]) -> str | None:
    """What is wrong with a server's answers to a faultless conversation, held step by step."""
    outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = method(iter(outbox.get, None), timeout=20)
    expected = {Kind.OPEN: Kind.OPENED, Kind.CODE: Kind.LOGITS}
    try:
        for raw in raws:
            outbox.put(raw)
            asked = decode(raw, LIMIT)
            if asked.kind in expected:
                said = decode(next(call), LIMIT)
                if said.kind is not expected[asked.kind] or said.timestep != asked.timestep:
                    return f"{asked} was answered by {said}"
        outbox.put(None)
        more = len(list(call))
    except (grpc.RpcError, StopIteration) as error:
        return repr(error)[-300:]
    return f"{more} answers too many" if more else None


def _check_line(error: NeucodexError) -> None:
    assert "\n" not in str(error)
    assert str(error).isascii()
    assert len(str(error)) < 700, len(str(error))


def run(messages: int, seed: int, only: int | None = None) -> dict[str, Any]:
    """Run until so many messages are through; the figures, and every case that must not be."""
    started = time.perf_counter()
    fuzzer = Fuzzer(seed)
    outcomes: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    through = number = 0
    by_socket = round(messages * SOCKET_SHARE)
    while only is not None or through < messages - by_socket:
        case = number if only is None else only
        try:
            target, count, outcome = fuzzer.case(case)
        except Exception:
            target, count, outcome = "?", 1, "escaped"
            bad.append({"case": case, "error": traceback.format_exc()[-1500:]})
        outcomes[f"{target} {outcome}"] += 1
        through += count
        number += 1
        if only is not None:
            break
    if only is None:
        found, worse = fuzzer.over_a_socket(by_socket)
        through += found.pop("socket messages")
        outcomes += found
        bad += worse
    extra_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    if extra_mb > EXTRA_MB:
        bad.append({"case": "all", "error": f"{extra_mb:.0f} MB more than before the first"})
    return {
        "messages": through,
        "cases": number,
        "seed": seed,
        "outcomes": dict(sorted(outcomes.items())),
        "extra_mb": extra_mb,
        "seconds": time.perf_counter() - started,
        "bad": bad,
    }


def main() -> int:
    """Run, print, and say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--case", type=int, help="only this one")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    faulthandler.enable()
    logging.basicConfig(level=logging.CRITICAL)
    # A warning about what a stranger sent is ours to avoid, as in all tests.
    warnings.filterwarnings("error", module=r"host_bridge(\.|$)")
    with contextlib.suppress(KeyboardInterrupt):
        report = run(arguments.messages, arguments.seed, arguments.case)
        if arguments.json:
            print(json.dumps(report))
        else:
            for outcome, count in report["outcomes"].items():
                print(f"{count:7,} {outcome}")
            print(
                f"{report['messages']:7,} messages of seed {report['seed']} in"
                f" {report['seconds']:.0f} s; {report['extra_mb']:.0f} MB more memory than at first"
            )
            for one in report["bad"][:20]:
                print(f"case {one['case']}: {one['error']}")
        return 1 if report["bad"] else 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
