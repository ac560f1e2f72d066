"""A training step of our conv-BN-LIF block against its bare convolution, stock SLAYER and two peers.

``python -m benchmarks.train`` prints the JSON; ``neucodex bench train`` calls `run`. The block has 64
channels on both sides at 32x32, batch 16, T = 2; a step is its forward and backward pass, with all
gradients. All contestants take turns, round by round, and the fastest round of each counts,
so that other users of the machine disturb them alike. snnTorch and SpikingJelly run in an environment
of their own, ``make peers``, and are left out where it is missing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from benchmarks.train_block import LAYOUTS, TIMESTEPS, Step, bare_convolution, peak_bytes, seconds
from benchmarks.train_client import PEER_PYTHON, PEERS, Ask, peer_worker
from benchmarks.train_steps import NETWORK_BATCH, network_step, our_block, slayer_block
from neucodex_lava.errors import ConfigError, MissingDependencyError
from neucodex_lava.progress import Progress, progress_bars, silent

CASES = ("conv", "slayer", *PEERS, "network")
GOALS = {"conv": 1 / 1.4, "slayer": 2.2, "snntorch": 1.0, "spikingjelly": 1.0}
"""Smallest ratio, baseline / ours, that is wanted."""
WARM_UP = 2
ROUNDS = 30
SECONDS = 30.0
"""No new round begins later than this."""
PAUSE_S = 0.003
"""Between two contestants, so that the threads of the one before have gone to sleep."""
NETWORK_ROUNDS = 4
Row = dict[str, Any]
Contestant = tuple[Callable[[], float], Callable[[], int]]
"""Seconds of one run, and the peak of its tensor memory in bytes."""


def run(*, cases: Sequence[str] = CASES, progress: Progress = silent) -> dict[str, Any]:
    """Time cases, by default all that can run here.

    Returns:
        ``{"name": "train", "cases": [...], "skipped": [...]}``. ``ours_s``, ``baseline_s`` are seconds
        per step, ``ratio_median`` the median of the rounds' ratios, ``goal`` the ratio wanted.
        ``layouts_s`` has the baseline in both memory layouts; the faster one is the baseline.
        ``..._peak_mib`` is the most tensor memory in use during a step beyond input, weights and output
        gradient, as torch's allocator counts it: scratch memory inside oneDNN is not in it. Case
        ``network`` is a step of the quarter-width ResNet-18 on 32x32, batch 64, T = 2, in bfloat16
        against float32.

    Raises:
        ConfigError: an unknown case.
        MissingDependencyError: only peers were asked for, and their environment is missing.
    """
    for name in cases:
        if name not in CASES:
            raise ConfigError(f"no benchmark case '{name}'", f"cases: {', '.join(CASES)}")
    found: list[Row] = []
    skipped: list[dict[str, str]] = []
    peers = [c for c in cases if c in PEERS]
    if peers and not PEER_PYTHON.is_file():
        missing = MissingDependencyError(
            f"{' and '.join(peers)} cannot be measured: there is no {PEER_PYTHON.parent.parent.name}",
            "make peers",
        )
        if len(peers) == len(cases):
            raise missing
        skipped = [{"case": c, "why": missing.message, "hint": missing.hint} for c in peers]
        peers = []
    wanted = [c for c in cases if c not in PEERS] + peers
    blocks = [c for c in wanted if c != "network"]
    if blocks:
        with peer_worker(bool(peers)) as ask:
            found += _block_cases(blocks, ask, progress)
    if "network" in wanted:
        found.append(_network(progress))
    return {
        "name": "train",
        "cases": found,
        "skipped": skipped,
        "threads": torch.get_num_threads(),
        "load_average_at_end": os.getloadavg()[0],
    }


def _block_cases(cases: Sequence[str], ask: Ask, progress: Progress) -> list[Row]:
    contestants = {
        "ours": _here(our_block(torch.float32)),
        "half": _here(our_block(torch.bfloat16)),
    }
    for case in cases:
        if case == "slayer":
            contestants["slayer stock"] = _here(slayer_block(fast=False))
            contestants["dropin"] = _here(slayer_block(fast=True))
            continue
        for layout in LAYOUTS:
            contestants[f"{case} {layout}"] = (
                _here(bare_convolution(layout)) if case == "conv" else _there(ask, case, layout)
            )
    times = _take_turns(contestants, ROUNDS, SECONDS, lambda d, n: progress("train: block", d, n))
    best = {name: min(found) for name, found in times.items()}
    memory = {name: peak() / 2**20 for name, (_, peak) in contestants.items()}
    rows: list[Row] = []
    for case in cases:
        found = {name: best[name] for name in best if name.split()[0] == case}
        baseline = min(found, key=lambda name: found[name])
        layout = baseline.split()[1]
        row: Row = {
            "case": case,
            "ours": "conv-BN-LIF, float32",
            "ours_s": best["ours"],
            "baseline": _described(case, layout, ask),
            "baseline_s": best[baseline],
            "ratio": best[baseline] / best["ours"],
            "goal": GOALS[case],
            "ratio_median": median(b / o for b, o in zip(times[baseline], times["ours"])),
            "ours_bfloat16_s": best["half"],
            "ours_peak_mib": memory["ours"],
            "ours_bfloat16_peak_mib": memory["half"],
            "baseline_peak_mib": memory[baseline],
            "rounds": len(times["ours"]),
        }
        if case == "slayer":
            row |= {
                "dropin_s": best["dropin"],
                "dropin_ratio": best[baseline] / best["dropin"],
                "dropin_peak_mib": memory["dropin"],
            }
        else:
            row["layouts_s"] = {name.split()[1]: s for name, s in found.items()}
        rows.append(row)
    return rows


def _network(progress: Progress) -> Row:
    steps = {dtype: network_step(dtype) for dtype in (torch.float32, torch.bfloat16)}
    contestants = {str(dtype): _here(step) for dtype, step in steps.items()}
    times = _take_turns(
        contestants, NETWORK_ROUNDS, SECONDS, lambda d, n: progress("train: network", d, n)
    )
    single, half = (min(times[str(dtype)]) for dtype in steps)
    memory = [peak() / 2**20 for _, peak in contestants.values()]
    return {
        "case": "network",
        "ours": f"resnet18-w0.25, batch {NETWORK_BATCH}, T = {TIMESTEPS}, bfloat16",
        "ours_s": half,
        "baseline": "the same in float32",
        "baseline_s": single,
        "ratio": single / half,
        "ours_peak_mib": memory[1],
        "baseline_peak_mib": memory[0],
        "rounds": len(times[str(torch.float32)]),
    }


def _take_turns(
    contestants: dict[str, Contestant],
    rounds: int,
    budget_s: float,
    progress: Callable[[int, int], None],
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round."""
    for time_once, _ in contestants.values():
        for _ in range(WARM_UP):
            time_once()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    began = time.perf_counter()
    for done in range(rounds):
        if done and time.perf_counter() - began > budget_s:
            break
        for name, (time_once, _) in contestants.items():
            time.sleep(PAUSE_S)
            times[name].append(time_once())
        progress(done + 1, rounds)
    return times


def _here(step: Step) -> Contestant:
    return lambda: seconds(step), lambda: peak_bytes(step)


def _there(ask: Ask, peer: str, layout: str) -> Contestant:
    return lambda: ask("time", peer, layout), lambda: ask("memory", peer, layout)


def _described(case: str, layout: str, ask: Ask) -> str:
    where = layout.replace("_", " ")
    if case == "conv":
        return f"bare convolution, {where}"
    if case == "slayer":
        return "SLAYER's block.cuba.Conv, no norm"
    return f"{case} {ask('version', case, layout)}, conv-BN-LIF, {where}"


if __name__ == "__main__":
    with progress_bars() as show:
        result = run(progress=show)
    print(json.dumps(result, indent=1))
