"""Token buckets: a burst, then an even rate, and no more memory than was allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_bridge.security.rates import Bucket, PeerRates, Rate
from neucodex_lava.errors import ConfigError


def test_a_burst_then_an_even_rate():
    bucket = Bucket(Rate(per_s=10, burst=3))
    assert [bucket.take(5.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(5.0) == pytest.approx(0.1)
    assert bucket.take(5.05) == pytest.approx(0.05)
    assert bucket.take(5.1001) == 0
    assert bucket.take(5.1001) > 0
    assert [bucket.take(1e6) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(1e6) > 0


@given(
    st.floats(0.1, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_never_more_than_burst_and_rate_allow(per_s, burst, gaps):
    bucket, now, taken = Bucket(Rate(per_s, burst)), 0.0, 0
    for gap in gaps:
        now += gap
        taken += bucket.take(now) == 0
    assert taken <= burst + now * per_s + 1e-6
    # Whoever waits as long as he was told gets one.
    wait_s = bucket.take(now)
    assert wait_s == 0 or bucket.take(now + wait_s * (1 + 1e-9) + 1e-9) == 0


def test_peers_have_buckets_of_their_own_and_the_oldest_is_forgotten():
    rates = PeerRates(Rate(per_s=1, burst=1), max_peers=3)
    assert [rates.take(peer, 0.0) for peer in "abc"] == [0, 0, 0]
    assert rates.take("a", 0.0) == 1
    assert rates.take("d", 0.0) == 0
    assert len(rates) == 3
    assert rates.take("a", 0.0) == 1
    assert rates.take("b", 0.0) == 0


def test_no_limit_is_no_limit():
    bucket = Bucket(Rate())
    assert {bucket.take(0.0) for _ in range(1000)} == {0.0}


def test_rates_that_let_nothing_pass_are_config_errors():
    for arguments in ({"per_s": 0}, {"per_s": -1}, {"per_s": 1, "burst": 0}):
        with pytest.raises(ConfigError, match="lets nothing pass"):
            Rate(**arguments)
