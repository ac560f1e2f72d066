"""The simulated event camera: when its pixels answer, and that nothing but seed and image decide."""

import numpy as np

from neucodex_lava.config import DataConfig, EncodingConfig
from neucodex_lava.data import EventSet, load
from neucodex_lava.data.events import problem_of
from neucodex_lava.data.saccades import (
    AMPLITUDE,
    CONTRAST,
    DARK,
    MARGIN,
    MISMATCH,
    SACCADE_US,
    STEP_US,
    _seen,
    saccade_events,
    shifts,
)

DIGITS = load(DataConfig(), split="test")
IMAGES = DIGITS.images()[:70, 0]  # type: ignore[attr-defined]
INDEX = DIGITS.index[:70]


def events_of(images: np.ndarray, seed: int = 0, size: int = 16) -> list[np.ndarray]:
    return list(saccade_events(images, size, seed, np.arange(len(images))))


def test_the_path_is_closed_and_smooth() -> None:
    path = shifts()
    assert len(path) == 3 * SACCADE_US // STEP_US + 1
    assert np.allclose(path[0], path[-1])
    per_step = np.abs(np.diff(path, axis=0)).max()
    # a smooth move is at most 1.5 times as fast as an even one
    assert per_step <= 1.5 * AMPLITUDE * STEP_US / SACCADE_US + 1e-12
    corners = path[:: SACCADE_US // STEP_US]
    assert np.allclose(np.diff(corners, axis=0), [(0.5, 1), (0.5, -1), (-1, 0)])


def test_an_even_image_gives_no_events_inside() -> None:
    """Only its edge moves; what lies inside stays as bright as it was."""
    (events,) = events_of(np.ones((1, 8, 8)), size=20)
    assert len(events)
    inside = (np.abs(events["x"] - 9.5) < 6) & (np.abs(events["y"] - 9.5) < 6)
    assert not inside.any()


def test_a_pixel_answers_each_time_log_intensity_moved_by_its_threshold() -> None:
    """Against the pixel model as it is written in the papers: logarithms, one pixel, fine steps."""
    image = IMAGES[3]
    assert events_of(image[None], size=256)
    (events,) = events_of(image[None])
    path = shifts()
    # what the pixels see is not in question here
    field = np.pad(image.astype(float), MARGIN)[..., None]
    seen = np.stack([_seen(field, 16, shift).reshape(16, 16) for shift in path])
    assert DARK <= seen.min() < seen.max() <= 1
    log = np.log(seen)
    raw = np.random.Philox(key=np.array([0, 0], np.uint64)).random_raw(256)
    theta = np.log1p(CONTRAST * (1 + MISMATCH * (raw / 2.0**63 - 1))).reshape(16, 16)
    for y, x in ((4, 5), (8, 8), (10, 6), (3, 9), (12, 8)):
        reference, expected = log[0, y, x], []
        # Back where it began, at its last step, a pixel is on its threshold: rounding decides.
        for step in range(1, len(log) - 1):
            now = log[step, y, x]
            while abs(now - reference) >= theta[y, x]:
                sign = 1 if now > reference else -1
                reference += sign * theta[y, x]
                expected.append((step, int(sign > 0)))
        mine = events[(events["x"] == x) & (events["y"] == y)]
        mine = mine[mine["t"] < (len(log) - 2) * STEP_US]
        assert [int(e["p"]) for e in mine] == [p for _, p in expected]
        steps = np.array([s for s, _ in expected])
        assert (mine["t"] <= steps * STEP_US).all()
        assert (mine["t"] >= (steps - 1) * STEP_US).all()


def test_events_are_right_and_balanced() -> None:
    all_events = events_of(IMAGES)
    for events in all_events:
        assert problem_of(events, (16, 16)) == ""
        assert 0 <= events["t"][0] < events["t"][-1] <= 3 * SACCADE_US
    assert 500 < np.mean([len(e) for e in all_events]) < 2000
    # the camera comes back to where it was: what grew brighter grew darker again
    assert 0.4 < np.mean([e["p"].mean() for e in all_events]) < 0.6


def test_an_images_events_do_not_depend_on_its_batch() -> None:
    whole = list(saccade_events(IMAGES, 16, 5, INDEX))
    for i in (0, 63, 64, 69):
        (alone,) = saccade_events(IMAGES[i : i + 1], 16, 5, INDEX[i : i + 1])
        assert (alone == whole[i]).all()
        assert len(alone) == len(whole[i])
    (other,) = saccade_events(IMAGES[:1], 16, 6, INDEX[:1])
    assert len(other) != len(whole[0]) or (other != whole[0]).any()


def test_digits_as_events() -> None:
    data = DataConfig("digitsdvs", 4, EncodingConfig("events", bits=1))
    test = load(data, split="test")
    assert isinstance(test, EventSet)
    assert (test.shape, len(test), test.flip_ok) == ((2, 16, 16), 360, False)
    assert (test.labels == DIGITS.labels).all()
    spikes = test.inputs(data)
    assert spikes.shape == (360, 2, 16, 16, 4)
    # Golden: bundles were trained on these.
    assert spikes[:5].sum((1, 2, 3, 4)).tolist() == GOLDEN
    graded = test.inputs(DataConfig("digitsdvs", 4, EncodingConfig("events", bits=3)))
    assert graded.max() > 1
    assert (np.minimum(graded, 1) == spikes).all()
    wide = DataConfig("digitsdvs", 2, EncodingConfig("events", bits=1, seed=3), size=24)
    assert load(wide, split="test").shape == (2, 24, 24)


GOLDEN = [474, 397, 436, 330, 465]
