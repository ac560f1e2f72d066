"""The embedded digits as events: a simulated saccade in front of a simulated event camera.

The camera moves a little, as the sensor of N-MNIST does (Orchard et al., Frontiers in Neuroscience
9:437, 2015): three saccades of 100 ms along a triangle, each a smooth move from corner to corner,
s(u) = u^2 (3 - 2 u). What a pixel sees is the digit, interpolated bilinearly:

    I(x, y, t) = dark + (1 - dark) * digit((x, y) / zoom + shift(t))

A pixel answers changes of log intensity (Lichtsteiner, Posch, Delbruck, "A 128x128 120 dB 15 us
latency asynchronous temporal contrast vision sensor", IEEE JSSC 43(2), 2008, equation 2): it sends an
event whenever ln I has moved by its threshold from where it was at its last event,

    ln I(t) - ln I_ref >= theta  (ON),     ln I(t) - ln I_ref <= -theta  (OFF),

and I_ref moves by theta. Written with c = e^theta - 1, as ON: I >= (1 + c) I_ref, it needs no
logarithm and comes out the same, to the bit, on every machine. The contrast c differs a little from
pixel to pixel (the mismatch of v2e, Hu, Liu, Delbruck, CVPR Workshops 2021). Between two steps of
simulation intensity is taken to be linear in time, so events have times of their own, as in ESIM
(Rebecq, Gehrig, Scaramuzza, CoRL 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.data.events import EVENT_DTYPE, Events

SACCADE_US = 100_000
STEP_US = 2_000
CORNERS = ((0.0, 0.0), (0.5, 1.0), (1.0, 0.0))
"""Of the triangle, (x, y), as shares of the amplitude; the third saccade leads back to the first."""
AMPLITUDE = 1.0
"""Of the move, in pixels of the digit."""
DARK = 0.1
"""Intensity of black, where white is 1."""
CONTRAST = 0.3
MISMATCH = 0.1
"""Pixels' contrasts are spread evenly over CONTRAST * (1 - MISMATCH) .. CONTRAST * (1 + MISMATCH)."""
MARGIN = 3
"""Black pixels around a digit: one in the field of view, two that the camera's moves may uncover."""
BATCH = 64
"""Images simulated at once."""

Floats = NDArray[np.float64]


def saccade_events(
    images: NDArray[np.floating[Any]], size: int, seed: int, indices: NDArray[np.int64]
) -> Iterator[Events]:
    """The events of each image, in order of time.

    They depend on the image, its index and the seed, and on nothing else.

    Args:
        images: (N, H, W), in [0, 1].
        size: height and width of the camera, in pixels.
        seed: of the pixels' mismatch.
        indices: (N,) index of each image.
    """
    for first in range(0, len(images), BATCH):
        part = slice(first, first + BATCH)
        yield from _batch_events(np.asarray(images[part], np.float64), size, seed, indices[part])


def shifts() -> Floats:
    """(steps + 1, 2): where the camera looks at each step, (x, y) in pixels of the digit."""
    u = np.arange(0, SACCADE_US, STEP_US) / SACCADE_US
    smooth = (u * u * (3 - 2 * u))[:, None]
    corners = np.array([*CORNERS, CORNERS[0]]) * AMPLITUDE
    moves = [a + (b - a) * smooth for a, b in pairwise(corners)]
    path = np.concatenate([*moves, corners[-1:]])
    return path - corners[:-1].mean(0)


def _batch_events(images: Floats, size: int, seed: int, indices: NDArray[np.int64]) -> list[Events]:
    """Only elementwise arithmetic, so that an image's events do not depend on its batch.

    Arrays are flat, of axes y, x, n, with the images last: they lie side by side in memory.
    """
    words = [
        np.random.Philox(key=np.array([seed % 2**64, i], np.uint64)).random_raw(size * size)
        for i in indices
    ]
    spread = (np.stack(words, axis=-1) / 2.0**63 - 1).ravel()
    up = 1 + CONTRAST * (1 + MISMATCH * spread)
    margin = (MARGIN, MARGIN)
    field = np.pad(np.moveaxis(images, 0, -1), (margin, margin, (0, 0)))
    path = shifts()
    before = _seen(field, size, path[0])
    high, low = before * up, before / up
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]] = []
    for step, shift in enumerate(path[1:]):
        now = _seen(field, size, shift)
        at = np.flatnonzero((now >= high) | (now <= low))
        while at.size:
            rising = now[at] >= high[at]
            level = np.where(rising, high[at], low[at])
            t = (step + (level - before[at]) / (now[at] - before[at])) * STEP_US
            found.append((at, t.astype(np.int64), rising))
            high[at], low[at] = level * up[at], level / up[at]
            at = at[(now[at] >= high[at]) | (now[at] <= low[at])]
        before = now
    at, t, rising = (np.concatenate(values) for values in zip(*found))
    y, x, n = np.unravel_index(at, (size, size, len(images)))
    order = np.lexsort((x, y, t, n))
    events = np.empty(len(n), EVENT_DTYPE)
    for name, values in zip("xytp", (x, y, t, rising)):
        events[name] = values[order]
    return np.split(events, np.searchsorted(n[order], np.arange(1, len(images))))


def _seen(field: Floats, size: int, shift: Floats) -> Floats:
    """What the pixels see, flat (size * size * N): bilinear, black outside the digit.

    Args:
        field: the digits and their margin, (H, W, N).
        size: of the camera.
        shift: (x, y).
    """
    side = len(field) - 2 * MARGIN
    # The whole field of view is the digit and a pixel of it all around.
    centres = (np.arange(size) + 0.5) * (side + 2) / size - 1.5 + MARGIN
    (x0, fx), (y0, fy) = (_parts(centres + d) for d in shift)
    fx, fy = fx[None, :, None], fy[:, None, None]
    rows = field[:, x0] * (1 - fx) + field[:, x0 + 1] * fx
    seen = rows[y0] * (1 - fy) + rows[y0 + 1] * fy
    return (DARK + (1 - DARK) * seen).ravel()


def _parts(place: Floats) -> tuple[NDArray[np.int64], Floats]:
    whole = np.floor(place)
    return whole.astype(np.int64), place - whole
