"""The Wilson interval, against published values and by simulation-free properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neucodex_lava.errors import ConfigError
from neucodex_lava.statistics import wilson_interval


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # 10 of 10: low = n / (n + z^2); 0 of 10 mirrors it
        (10, 10, 0.722467, 1.0),
        (0, 10, 0.0, 0.277533),
        # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_known_intervals(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@given(total=st.integers(1, 10**6), share=st.floats(0, 1))
def test_the_interval_holds_the_share_and_mirrors(total: int, share: float) -> None:
    correct = round(total * share)
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    assert low < high
    assert wilson_interval(total - correct, total) == pytest.approx((1 - high, 1 - low))
    wide = wilson_interval(correct, total, 0.99)
    assert wide[0] <= low
    assert wide[1] >= high


def test_no_trials_say_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("correct", "total"), [(2, 1), (-1, 3), (0, -1)])
def test_numbers_that_are_no_share(correct: int, total: int) -> None:
    with pytest.raises(ConfigError, match="no share"):
        wilson_interval(correct, total)


@pytest.mark.parametrize("confidence", [0, 1, -1, float("nan")])
def test_confidence_out_of_range(confidence: float) -> None:
    with pytest.raises(ConfigError, match="outside"):
        wilson_interval(1, 2, confidence)
