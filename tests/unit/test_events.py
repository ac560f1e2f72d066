"""Events: what is refused, and what the bins of a recording hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neucodex_lava.data.events import EVENT_DTYPE, bin_events, problem_of, too_short


def events(*rows: tuple[int, int, int, int]) -> np.ndarray:
    """Rows of x, y, t, p."""
    return np.array(list(rows), EVENT_DTYPE)


GOOD = ((0, 0, 0, 0), (3, 1, 10, 1), (3, 1, 10, 1), (1, 1, 39, 0), (2, 0, 40, 1))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((4, 0, 41, 0), "1 of 6 events out of range: x of event 5 is 4, the range is 0..3"),
        ((-1, 0, 41, 0), "x of event 5 is -1"),
        ((0, 2, 41, 0), "y of event 5 is 2, the range is 0..1"),
        ((0, 0, 41, 2), "p of event 5 is 2, the range is 0..1"),
        ((0, 0, 39, 0), "out of order: event 5 is of 39 µs, the one before of 40 µs"),
    ],
)
def test_events_that_are_wrong(bad: tuple[int, int, int, int], message: str) -> None:
    assert problem_of(events(*GOOD), (4, 2)) == ""
    assert message in problem_of(events(*GOOD, bad), (4, 2))


def test_no_events() -> None:
    assert problem_of(events(), (4, 2)) == "holds no events"


def test_unsigned_times_that_go_back_are_noticed() -> None:
    record = np.zeros(2, [("t", "u8"), ("x", "u2"), ("y", "u2"), ("p", "?")])
    record["t"] = [5, 4]
    assert "out of order" in problem_of(record, (1, 1))


def test_recordings_too_short() -> None:
    assert too_short(events(*GOOD), 40, "time") == ""
    assert "lasts 40 µs, too short for 41" in too_short(events(*GOOD), 41, "time")
    assert too_short(events(*GOOD), 5, "count") == ""
    assert "has 5 events, too few for 6" in too_short(events(*GOOD), 6, "count")


def test_bins_of_equal_time_by_hand() -> None:
    frames = bin_events(events(*GOOD), (4, 2), 2, "time")
    assert (frames.shape, frames.dtype) == ((2, 2, 4, 2), np.uint8)
    want = np.zeros_like(frames)
    want[0, 0, 0, 0] = 1  # p, y, x, t
    want[1, 1, 3, 0] = 2
    want[0, 1, 1, 1] = 1  # the last event, at 40, ends the recording and is left over
    assert (frames == want).all()


def test_bins_of_equal_count_by_hand() -> None:
    frames = bin_events(events(*GOOD), (4, 2), 2, "count")
    want = np.zeros_like(frames)
    want[0, 0, 0, 0] = want[1, 1, 3, 0] = 1
    want[1, 1, 3, 1] = want[0, 1, 1, 1] = 1
    assert (frames == want).all()


def test_a_smaller_size_adds_up_pixels() -> None:
    rows = [(x, y, 10 * (4 * y + x), 1) for y in range(4) for x in range(4)]
    frames = bin_events(events(*rows, (0, 0, 160, 0)), (4, 4), 1, "time", size=2)
    assert frames.shape == (2, 2, 2, 1)
    assert (frames[1] == 4).all()


def test_counts_stop_at_255() -> None:
    rows = [(0, 0, t, 0) for t in range(400)]
    assert bin_events(events(*rows), (1, 1), 1, "time").max() == 255


@given(st.integers(1, 9), st.integers(0, 2**31), st.sampled_from(["time", "count"]))
@settings(max_examples=40, deadline=None)
def test_every_event_but_the_left_over_ones_is_in_one_bin(
    timesteps: int, seed: int, bins: str
) -> None:
    rng = np.random.default_rng(seed)
    record = np.zeros(60, EVENT_DTYPE)
    record["t"] = np.sort(rng.integers(0, 500, 60))
    record["x"], record["y"] = rng.integers(0, 5, 60), rng.integers(0, 3, 60)
    record["p"] = rng.integers(0, 2, 60)
    frames = bin_events(record, (5, 3), timesteps, bins)  # type: ignore[arg-type]
    if bins == "count":
        kept = record[: 60 // timesteps * timesteps]
        assert (frames.sum((0, 1, 2)) == 60 // timesteps).all()
    else:
        length = (record["t"][-1] - record["t"][0]) // timesteps
        kept = record[record["t"] < record["t"][0] + length * timesteps]
    whole = np.zeros((2, 3, 5), int)
    np.add.at(whole, (kept["p"], kept["y"], kept["x"]), 1)
    assert (frames.sum(-1) == whole).all()
