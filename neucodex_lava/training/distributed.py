"""Training by several processes that `torchrun` starts: the same steps, each batch shared out.

Every process averages its gradients with the others' (torch's DistributedDataParallel), so that weights
are the same in all of them. Batch norms normalise each process's share by itself; their running
statistics are the first process's, and all process compute the same ones before quantisation.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from neucodex_lava.config import DeviceName, require


@dataclass(frozen=True)
class World:
    """The processes that train together, and which of them this one is.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> World:
        """The world that was joined, or this process alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def sum(self, *numbers: float) -> list[float]:
        """Each number, summed over the processes."""
        if self.size == 1:
            return list(numbers)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        total = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return total.tolist()

    def share(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the processes."""
        if self.size == 1:
            return module
        # SLAYER's kernels have an axis of length 1 whose strides torch finds odd: no matter to us.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return DistributedDataParallel(module)

    def same_buffers(self, module: nn.Module) -> None:
        """Take over the first process's running statistics."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


def is_first_process() -> bool:
    """Whether this process is the only one or the first of those that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0" or "WORLD_SIZE" not in os.environ


def device_of(name: DeviceName) -> torch.device:
    """Where this process computes; each process of a machine has its own GPU.

    Raises:
        ConfigError: a GPU is asked for and there is none, or fewer than processes.
    """
    require(
        name != "cuda" or torch.cuda.is_available(),
        "this machine has no CUDA device that torch can use",
        "choose --device cpu or auto",
    )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    rank, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    require(
        rank < found,
        f"process {rank + 1} of this machine has no GPU of its own, there are {found}",
        f"start torchrun with --nproc-per-node {found}, or choose --device cpu",
    )
    return torch.device("cuda", rank)


@contextlib.contextmanager
def joined(name: DeviceName) -> Iterator[World]:
    """The world of the processes that `torchrun` started, or of this one alone.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    device = device_of(name)
    if dist.is_initialized() or not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        yield World.current()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World.current()
    finally:
        dist.destroy_process_group()
