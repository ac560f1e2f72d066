"""A small tail in plain numpy, behind the same protocol as the torch executor."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# Machines are shared: how long an example takes says nothing about whether it is right.
settings.register_profile("bridge", deadline=None)
settings.load_profile("bridge")


@dataclass(eq=False)
class State:
    """Potentials and running sums; both depend on every code since the sample began."""

    potential: np.ndarray
    sums: np.ndarray


@dataclass
class FakeTail:
    """v[t] = (v[t-1] >> 1) + W z[t]; S_t = S_{t-1} + v[t]; integers throughout."""

    name: str = "bundle"
    code_shape: tuple[int, int, int] = (2, 3, 3)
    code_bits: int = 1
    classes: int = 10
    t_max: int = 4
    gain: float = 2.5
    fail_at: int = 0
    before_step: Callable[[], Any] = lambda: None
    alive: weakref.WeakSet[State] = field(default_factory=weakref.WeakSet)
    steps: int = 0

    def __post_init__(self) -> None:
        self.model = hashlib.sha256(self.name.encode()).hexdigest()
        rng = np.random.default_rng(int(self.model[:8], 16))
        size = int(np.prod(self.code_shape))
        self.weights = rng.integers(-50, 50, (self.classes, size))

    def new_state(self) -> State:
        state = State(np.zeros(self.classes, np.int64), np.zeros(self.classes, np.int64))
        self.alive.add(state)
        return state

    def step(self, state: State, code: np.ndarray) -> tuple[State, np.ndarray]:
        self.before_step()
        self.steps += 1
        if self.steps == self.fail_at:
            raise RuntimeError("secret detail of the tail")
        potential = (state.potential >> 1) + self.weights @ code.reshape(-1).astype(np.int64)
        new = State(potential, state.sums + potential)
        self.alive.add(new)
        return new, new.sums

    def run(self, codes: np.ndarray) -> np.ndarray:
        """S_1..S_T of one sample, shape (T, classes): what a server must answer."""
        state, rows = self.new_state(), []
        for code in codes:
            state, sums = self.step(state, code)
            rows.append(sums)
        return np.stack(rows)

    def codes(self, seed: int, samples: int = 1, timesteps: int = 0) -> np.ndarray:
        """Pseudo-random codes, shape (samples, T, C, H, W)."""
        rng = np.random.default_rng(seed)
        shape = (samples, timesteps or self.t_max, *self.code_shape)
        return rng.integers(0, 1 << self.code_bits, shape).astype(np.uint8)


@pytest.fixture
def make_tail() -> Callable[..., FakeTail]:
    return FakeTail


@dataclass
class FakeBatchTail(FakeTail):
    """The same, which also takes samples together; `sizes` says how many at a time.

    A code whose first value is 1 fails where `poisoned`, and all that are taken with it.
    """

    sizes: list[int] = field(default_factory=list)
    poisoned: bool = False

    def step(self, state: State, code: np.ndarray) -> tuple[State, np.ndarray]:
        if self.poisoned and code.flat[0]:
            raise RuntimeError("poison")
        return super().step(state, code)

    def step_batch(self, states: list[State], codes: np.ndarray) -> tuple[list[State], np.ndarray]:
        self.sizes.append(len(states))
        if self.poisoned and codes[:, 0, 0, 0].any():
            raise RuntimeError("poison")
        self.before_step()
        pairs = [FakeTail.step(self, state, code) for state, code in zip(states, codes)]
        return [state for state, _ in pairs], np.stack([sums for _, sums in pairs])


@pytest.fixture
def make_batch_tail() -> Callable[..., FakeBatchTail]:
    return FakeBatchTail
