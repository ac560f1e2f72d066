"""Where the executor runs, and how torch is kept exact there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from neucodex_lava.errors import ConfigError

_lock = threading.Lock()
_inside = 0
_before: tuple[bool, str] = (True, "highest")


def usable_device(name: str) -> torch.device:
    """The torch device of this name, tried out.

    Raises:
        ConfigError: unknown, or not on this machine.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"torch device '{name}' cannot be used: {reason}",
            "use cpu, or cuda where there is a GPU",
        ) from error
    return device


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """No gradients, no autocast, no TF32 or bfloat16 inside float32: they would round within sums.

    torch has the last two for the whole process, so threads share them: the first one in turns them
    off, the last one out restores what was there.
    """
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
            torch.backends.cudnn.allow_tf32 = False
            torch.set_float32_matmul_precision("highest")
        _inside += 1
    try:
        with (
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch.backends.cudnn.allow_tf32 = _before[0]
                torch.set_float32_matmul_precision(_before[1])
