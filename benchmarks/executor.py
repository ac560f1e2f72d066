"""The executor against its bare convolutions: a test split through a full-width head, all counts.

``python -m benchmarks.executor`` prints the JSON; ``neucodex bench executor`` calls `run`. The baseline
runs the same convolutions, at the same shapes and on as many cores, in torch alone: no neurons, no
counts, no encoding. A ratio of 1 is the limit; it can only be passed on a busy machine.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.networks import Spec, build, images_for
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.config import DataConfig
from neucodex_lava.data import load
from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.evaluation.dataset_run import confirm, random_subset, run_dataset
from neucodex_lava.evaluation.samples import EncodedSamples, GivenSamples, Samples
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.progress import Progress, progress_bars, silent

SPEC = Spec("resnet18", timesteps=2, split=3)
CASES = {"resnet18_sp3_10000_images": 10_000, "resnet18_sp3_48_images": 48}
"""Images of each case."""
SHARES_OF = 192
"""Images that the shares of convolutions, neurons and counts are measured on."""
CONFIRM = 5
BEST_OF = 5
RATE = 0.2
"""Firing rate of the convolutions' input; their speed does not depend on it."""


def run(*, cases: Sequence[str] = tuple(CASES)[:1], progress: Progress = silent) -> dict[str, Any]:
    """Time all cases.

    Returns:
        ``{"name": "executor", "cases": [...]}``; ``ours_s`` and ``baseline_s`` are seconds for all
        images of the case. On a machine that others use, ``ours_cpu_s`` and ``baseline_cpu_s``, of all
        cores together, say more; the shares are of these.

    Raises:
        ConfigError: an unknown case.
    """
    for name in cases:
        if name not in CASES:
            raise ConfigError(f"no benchmark case '{name}'", f"cases: {', '.join(CASES)}")
    net = build(SPEC).net
    return {"name": "executor", "cases": [_measure(name, net, progress) for name in cases]}


def _measure(name: str, net: IntegerNet, progress: Progress) -> dict[str, Any]:
    images = CASES[name]
    samples, source = _samples(images)
    executor = Executor(net, stop=net.cut)
    batch = executor.batch_size(samples.timesteps)
    some = samples.take(slice(0, min(images, SHARES_OF)))
    macs = _convolution_macs(net)
    run_twin(executor, some)
    rss_before = _peak_rss_mib()
    load = os.getloadavg()[0]
    cpu_before = time.process_time()
    found = run_dataset(net, samples, progress=lambda d, n: progress(f"{name}: executor", d, n))
    cpu_s = time.process_time() - cpu_before
    peak_rss = _peak_rss_mib()
    _, all_cpu_s = _best(lambda: run_twin(executor, some))
    _, uncounted_cpu_s = _best(lambda: run_twin(executor, some, count=False))
    layers = _layers(net, batch)
    bare_s, bare_cpu_s = _best(lambda: _convolutions(layers, len(some), batch))
    chosen = random_subset(images, CONFIRM, seed=0)
    confirm(net, samples, found.all, chosen)
    baseline_s, baseline_cpu_s = (s * images / len(some) for s in (bare_s, bare_cpu_s))
    flops = 2 * macs * samples.timesteps * images
    return {
        "case": name,
        "ours": f"executor, {images} images, T = {samples.timesteps}, all counts",
        "ours_s": found.seconds,
        "baseline": "bare convolutions in torch",
        "baseline_s": baseline_s,
        "ratio": baseline_s / found.seconds,
        "ours_cpu_s": cpu_s,
        "baseline_cpu_s": baseline_cpu_s,
        "cpu_ratio": baseline_cpu_s / cpu_s,
        "images_per_s": images / found.seconds,
        "input": source,
        "macs_per_image_and_timestep": macs,
        "gflop_per_s": flops / found.seconds / 1e9,
        "convolutions_gflop_per_s": flops / baseline_s / 1e9,
        "matrix_product_gflop_per_s": _matrix_product_gflops(),
        "convolutions_share": bare_cpu_s / all_cpu_s,
        "neurons_share": (uncounted_cpu_s - bare_cpu_s) / all_cpu_s,
        "counts_share": (all_cpu_s - uncounted_cpu_s) / all_cpu_s,
        "syn_ops": found.all.ledger.total("syn_ops"),
        "confirmed_in_lava": chosen.tolist(),
        "batch_size": batch,
        "threads": torch.get_num_threads(),
        "peak_rss_mib": peak_rss,
        "peak_rss_before_mib": rss_before,
        "load_average_at_start": load,
    }


def _samples(images: int) -> tuple[Samples, str]:
    """The first CIFAR-10 test images, or synthetic ones."""
    data = DataConfig("cifar10", SPEC.timesteps)
    try:
        split = load(data, None, "test").take(slice(0, images))
    except DataError:
        spikes, name = images_for(SPEC, images)
        return GivenSamples(spikes), f"{name}, rate-coded"
    return EncodedSamples(split, data), "CIFAR-10 test images, rate-coded"


def _convolution_macs(net: IntegerNet) -> int:
    """Multiplications of one timestep, padding not counted."""
    return sum(
        int(connection.fan_out(net.shape_of(connection.source), node.shape)[0].sum())
        for node in net.edge_nodes
        for connection in node.connections
        if connection.kind == "conv"
    )


def _convolutions(layers: Sequence[tuple[Any, ...]], samples: int, batch: int) -> None:
    """All convolutions of `samples`, on as many threads as torch has, one batch each."""
    threads = torch.get_num_threads()

    def work(first: int) -> None:
        with torch.no_grad():
            for _ in range(first, samples, batch * threads):
                for x, weight, stride, padding in layers:
                    F.conv2d(x, weight, None, stride, padding)

    try:
        with ThreadPoolExecutor(threads, "bare", torch.set_num_threads, (1,)) as pool:
            list(pool.map(work, range(0, batch * threads, batch)))
    finally:
        torch.set_num_threads(threads)


def _layers(net: IntegerNet, batch: int) -> list[tuple[Any, ...]]:
    layers: list[tuple[Any, ...]] = []
    last = torch.channels_last
    for node in net.edge_nodes:
        for c in node.connections:
            if c.kind != "conv":
                continue
            shape = net.shape_of(c.source)
            x = (torch.rand(batch * net.timesteps, *shape) < RATE).float()
            weight = torch.from_numpy(c.effective_weight()).float()
            x, weight = x.contiguous(memory_format=last), weight.contiguous(memory_format=last)
            layers.append((x, weight, c.stride, c.padding))
    return layers


def _matrix_product_gflops(size: int = 2048) -> float:
    """What a large product of float32 matrices reaches on all cores: torch's practical peak."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    return 2 * size**3 / _best(lambda: a @ b)[0] / 1e9


def _best(work: Callable[[], object]) -> tuple[float, float]:
    """Least seconds, on the clock and of all cores: others may keep the machine busy."""
    wall_s = cpu_s = float("inf")
    for _ in range(BEST_OF):
        began, cpu_began = time.perf_counter(), time.process_time()
        work()
        wall_s = min(wall_s, time.perf_counter() - began)
        cpu_s = min(cpu_s, time.process_time() - cpu_began)
    return wall_s, cpu_s


def _peak_rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    with progress_bars() as show:
        result = run(progress=show)
    print(json.dumps(result, indent=1))
