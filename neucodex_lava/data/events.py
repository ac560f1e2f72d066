"""Events of a recording: whether they are right, and how they become frames of T timesteps.

Events are numpy records with fields x, y (pixels), t (microseconds) and p (polarity, 1 where it grew
brighter), in order of time, as Tonic's readers give them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import Binning

Events = NDArray[Any]
EVENT_DTYPE = np.dtype([("x", np.int32), ("y", np.int32), ("t", np.int64), ("p", np.int8)])
POLARITIES = 2
COUNT_MAX = 255
"""The largest count that is kept of a pixel, polarity and timestep: uint8."""


def problem_of(events: Events, sensor: tuple[int, int]) -> str:
    """What is wrong with the events of a recording, or nothing.

    Args:
        events: (E,), fields x, y, t, p.
        sensor: (W, H) of the camera.
    """
    if len(events) == 0:
        return "holds no events"
    for axis, limit in (*zip("xy", sensor), ("p", POLARITIES)):
        values = events[axis].astype(np.int64)
        wrong = np.flatnonzero((values < 0) | (values >= limit))
        if wrong.size:
            return (
                f"has {wrong.size:,} of {len(events):,} events out of range: {axis} of event"
                f" {wrong[0]} is {values[wrong[0]]}, the range is 0..{limit - 1}"
            )
    t = events["t"]
    back = np.flatnonzero(t[1:] < t[:-1])
    if back.size:
        i = int(back[0])
        return (
            f"has events out of order: event {i + 1} is of {t[i + 1]} µs, the one before of"
            f" {t[i]} µs"
        )
    return ""


def too_short(events: Events, timesteps: int, bins: Binning) -> str:
    """Why the recording cannot be divided into T timesteps, or nothing."""
    if bins == "count" and len(events) < timesteps:
        return f"has {len(events)} events, too few for {timesteps} timesteps"
    duration = int(events["t"][-1]) - int(events["t"][0])
    if bins == "time" and duration < timesteps:
        return f"lasts {duration} µs, too short for {timesteps} timesteps"
    return ""


def bin_events(
    events: Events, sensor: tuple[int, int], timesteps: int, bins: Binning, size: int = 0
) -> NDArray[np.uint8]:
    """Count the events of each pixel and polarity in T timesteps of equal time, or of equal count.

    Timesteps last floor((t_last - t_first) / T) microseconds from the first event on, or hold
    floor(E / T) events; what is left over at the end is dropped (fewer than T microseconds, or
    fewer than T events). Tonic's `Downsample` and `ToFrame` do it.

    Args:
        events: (E,), right and long enough.
        sensor: (W, H).
        timesteps: T.
        bins: ``time`` or ``count``.
        size: height and width of the frames: pixel (x, y) goes to (floor(x size / W),
            floor(y size / H)); 0 keeps the sensor's.

    Returns:
        uint8 (2, H, W, T), counts clipped to 255; channel 0 where it grew darker, 1 brighter.
    """
    from tonic.transforms import Downsample, ToFrame

    width, height = (size, size) if size else sensor
    if size:
        events = Downsample(sensor_size=(*sensor, POLARITIES), target_size=(size, size))(events)
    shape = (width, height, POLARITIES)
    to_frames = (
        ToFrame(shape, n_time_bins=timesteps)
        if bins == "time"
        else ToFrame(shape, n_event_bins=timesteps)
    )
    frames = np.clip(to_frames(events), 0, COUNT_MAX).astype(np.uint8)
    return np.moveaxis(frames, 0, -1)
