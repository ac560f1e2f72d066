"""How small codes become, and how long that takes beside plain bit-packing.

Synthetic codes spike independently, each channel at a rate of its own drawn around the case's mean;
tables are trained on other samples of the same rates. The last case is the codes of a released
bundle, under its own tables (or under ones trained here, where it has none).

`auto` chooses by size alone. Sizes are means over frames, times medians; packing and `auto` take turns
frame by frame, so that a change in the machine's load meets both.

Run it alone with `python -m benchmarks.codec`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from host_bridge.codecs import CHOICES, CODECS, Coder, Decoder, Tables, TableTraining, raw_bits
from host_bridge.codecs.ans import cost_bits
from neucodex_lava.cloud.coded import codes_at, own_entropy_bits
from neucodex_lava.errors import ConfigError
from neucodex_lava.progress import Progress, silent

REPOSITORY = Path(__file__).resolve().parents[1]
RELEASED = REPOSITORY / "netx_exports" / "resnet-small-digits"
BASELINE = "bit-packed"
SHAPES = {"8k": (32, 16, 16), "65k": (64, 32, 32)}
ACTIVITIES = (0.02, 0.05, 0.10, 0.20, 0.30)
TIMESTEPS, TRAINING_SAMPLES, SAMPLES = 4, 32, 16
MARGIN, MARGIN_BYTES = 1.05, 4
SEED = 6

Codes = npt.NDArray[np.uint8]
"""(N, T, C, H, W)."""

SYNTHETIC = {
    f"{size}_{activity:.2f}": (shape, activity)
    for size, shape in SHAPES.items()
    for activity in ACTIVITIES
}
BUNDLE = "digits_sp1"
CASES = (*SYNTHETIC, BUNDLE)


def run(*, cases: Sequence[str] = CASES, progress: Progress = silent) -> dict[str, Any]:
    """Measure the cases.

    Returns:
        `{"name": "codec", "cases": [{"case", "ours_s", "baseline", "baseline_s", "ratio",
        "raw_bits", "activity", "limit_bytes", "coded_bytes", ...}]}`: `limit_bytes` is the frames'
        cross-entropy under the tables, `own_entropy_bytes` their own entropy channel by channel,
        `<codec>_bytes` what each codec makes of them, `most_over_limit_bytes` by how much the worst
        frame misses 5 % and 4 bytes above its limit (none where it is not positive).

    Raises:
        ConfigError: an unknown case.
    """
    found: list[dict[str, Any]] = []
    for done, name in enumerate(cases):
        progress("bench codec", done, len(cases))
        if name not in CASES:
            raise ConfigError(f"no benchmark case '{name}'", f"cases: {', '.join(CASES)}")
        codes, tables, source = _released() if name == BUNDLE else _synthetic(*SYNTHETIC[name])
        found.append({"case": name} | _measure(codes, tables) | {"tables": source})
    progress("bench codec", len(cases), len(cases))
    return {"name": "codec", "cases": found}


def _synthetic(shape: tuple[int, int, int], activity: float) -> tuple[Codes, Tables, str]:
    draw = np.random.default_rng(SEED)
    # Beta with this mean: rates of channels differ by about as much as their mean.
    rates = draw.beta(2, 2 / activity - 2, shape[0])
    rates = np.minimum(rates * activity / rates.mean(), 0.95)
    samples = TRAINING_SAMPLES + SAMPLES
    codes = draw.random((samples, TIMESTEPS, *shape), np.float32) < rates[:, None, None]
    training = TableTraining(shape)
    for sample in codes[:TRAINING_SAMPLES].astype(np.uint8):
        training.add(sample)
    return codes[TRAINING_SAMPLES:].astype(np.uint8), training.tables(), "other samples"


def _released() -> tuple[Codes, Tables, str]:
    from neucodex_lava.bundle import load_bundle, load_coding
    from neucodex_lava.cloud.coding import SAMPLES as TRAINED_ON
    from neucodex_lava.cloud.coding import train_tables
    from neucodex_lava.cloud.executor import Executor
    from neucodex_lava.cloud.twin import run_twin
    from neucodex_lava.evaluation.samples import open_samples

    base = load_bundle(RELEASED / "base")
    cut = base.manifest.split_points["SP1"]
    tables, source = load_coding(base, cut), "bundle"
    if tables is None:
        training = open_samples(base, TRAINED_ON, split="train").take()
        tables, source = train_tables(base.net, [cut], [training])[cut], "trained here"
    inputs = open_samples(base, 60).take()
    result = run_twin(Executor(base.net), inputs, record=True, count=False)
    return codes_at(base.net, cut, inputs, result.spikes or {}), tables, source


def _frames(codes: Codes) -> Iterator[tuple[Any, Any]]:
    """Each code with the one before it of its sample."""
    for sample in codes:
        for t, code in enumerate(sample):
            yield code, sample[t - 1] if t else None


def _measure(codes: Codes, tables: Tables) -> dict[str, Any]:
    shape = codes.shape[2:]
    coders = {choice: Coder(shape, 1, tables, choice) for choice in CHOICES}
    decoder = Decoder(shape, 1, tables)
    seconds: dict[str, list[float]] = {choice: [] for choice in (*CHOICES, "decode")}
    sizes: dict[str, list[int]] = {choice: [] for choice in CHOICES}
    limits: list[float] = []
    own: list[float] = []
    used: dict[str, int] = {}
    for coder in coders.values():
        coder.encode(codes[0, 1], codes[0, 0])  # whatever is made once is made now
    for code, previous in _frames(codes):
        payloads: dict[str, tuple[int, bytes]] = {}
        for choice, coder in coders.items():
            took, payloads[choice] = _timed(coder.encode, code, previous)
            seconds[choice].append(took)
            sizes[choice].append(len(payloads[choice][1]))
        codec, payload = payloads["auto"]
        used[CODECS[codec].name] = used.get(CODECS[codec].name, 0) + 1
        took, back = _timed(decoder.decode, codec, payload, previous)
        seconds["decode"].append(took)
        if not np.array_equal(back, code):
            raise RuntimeError("a code came back changed")
        limits.append(cost_bits(code, tables) / 8)
        own.append(own_entropy_bits(code, 1) / 8)
    ours, baseline = (statistics.median(seconds[choice]) for choice in ("auto", "packed"))
    over = np.array(sizes["auto"]) - MARGIN * np.array(limits) - MARGIN_BYTES
    named = {choice.replace("-", "_"): choice for choice in CHOICES if choice != "auto"}
    return {
        "ours_s": ours,
        "baseline": BASELINE,
        "baseline_s": baseline,
        "ratio": baseline / ours,
        "raw_bits": raw_bits(shape),
        "activity": float(codes.mean()),
        "frames": len(limits),
        "limit_bytes": float(np.mean(limits)),
        "own_entropy_bytes": float(np.mean(own)),
        "coded_bytes": float(np.mean(sizes["auto"])),
        "most_over_limit_bytes": float(over.max()),
        "most_over_packed_bytes": int((np.array(sizes["auto"]) - sizes["packed"]).max()),
        **{f"{key}_bytes": float(np.mean(sizes[choice])) for key, choice in named.items()},
        **{f"{key}_s": statistics.median(seconds[choice]) for key, choice in named.items()},
        "auto_p99_s": float(np.quantile(seconds["auto"], 0.99)),
        "decode_s": statistics.median(seconds["decode"]),
        "auto_used": used,
    }


def _timed(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - start, result


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    print(json.dumps(run(), indent=2))
