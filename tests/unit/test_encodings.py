"""Encodings: exact spike counts, and independence of batch, order and run length."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neucodex_lava.config import EncodingConfig
from neucodex_lava.data.encodings import bernoulli, deterministic, direct, direct_bits, encode
from neucodex_lava.errors import ConfigError, DataError, NetError
from neucodex_lava.integer_net import Connection, Neuron, Node, check_sums, worst_case_sums

CONFIGS = [EncodingConfig("deterministic"), EncodingConfig("bernoulli"), EncodingConfig("direct")]


def pixels(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1, 1, 1)


def some_images(n: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 2, 3, 3), dtype=np.float32)


def test_deterministic_spikes_by_hand() -> None:
    spikes = deterministic(pixels(0, 0.25, 0.5, 0.75, 1), 4)
    assert spikes.dtype == np.uint8
    assert spikes.reshape(5, 4).tolist() == [
        [0, 0, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 1, 0],
        [1, 1, 0, 1],
        [1, 1, 1, 1],
    ]


@given(scale=st.sampled_from([16, 255]), timesteps=st.integers(1, 64) | st.integers(250, 300))
@settings(max_examples=60, deadline=None)
def test_deterministic_has_sent_the_nearest_count_after_every_timestep(
    scale: int, timesteps: int
) -> None:
    levels = np.arange(scale + 1)
    x = levels.astype(np.float32).reshape(-1, 1, 1, 1) / np.float32(scale)
    spikes = deterministic(x, timesteps).reshape(scale + 1, timesteps)
    assert set(np.unique(spikes)) <= {0, 1}
    sent = np.cumsum(spikes, axis=1, dtype=np.int64)
    t = np.arange(1, timesteps + 1)
    # round half up, in integers: floor((2 t k + scale) / (2 scale))
    assert (sent == (2 * t * levels[:, None] + scale) // (2 * scale)).all()


@given(level=st.integers(1, 255), timesteps=st.integers(2, 64))
@settings(deadline=None)
def test_deterministic_spikes_are_equally_spaced(level: int, timesteps: int) -> None:
    spikes = deterministic(pixels(level / 255), timesteps).reshape(-1)
    gaps = np.diff(np.flatnonzero(spikes))
    if gaps.size:
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_neither_batch_nor_order_matters(config: EncodingConfig, data: st.DataObject) -> None:
    images = some_images(6)
    whole = encode(images, config, 5, first_index=10)
    order = np.array(data.draw(st.permutations(range(6))))
    shuffled = encode(images[order], config, 5, indices=10 + order)
    assert (shuffled == whole[order]).all()
    one = data.draw(st.integers(0, 5))
    assert (encode(images[one : one + 1], config, 5, first_index=10 + one) == whole[one]).all()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_a_shorter_run_is_the_beginning_of_a_longer_one(config: EncodingConfig) -> None:
    images = some_images()
    longest = encode(images, config, 9)
    for timesteps in (1, 4, 8):
        assert (encode(images, config, timesteps) == longest[..., :timesteps]).all()


def test_bernoulli_depends_on_seed_and_index_only() -> None:
    image = np.full((1, 1, 8, 8), 0.5, np.float32)
    first = bernoulli(image, 8, 0, np.array([0]))
    assert (first == bernoulli(image, 8, 0, np.array([0]))).all()
    assert (first != bernoulli(image, 8, 1, np.array([0]))).any()
    assert (first != bernoulli(image, 8, 0, np.array([1]))).any()
    assert (first != bernoulli(image, 8, -1, np.array([0]))).any()
    two = bernoulli(np.repeat(image, 2, axis=0), 8, 0, np.array([0, 1]))
    assert (two[0] == first[0]).all()
    assert (two[0] != two[1]).any()


def test_bernoulli_stays_the_same_for_ever() -> None:
    # Golden: recorded datasets and bundles rely on these bits.
    spikes = bernoulli(np.full((1, 1, 1, 5), 0.5, np.float32), 3, 7, np.array([42]))
    assert spikes.reshape(5, 3).T.tolist() == [[0, 1, 0, 0, 0], [0, 1, 1, 0, 1], [1, 1, 1, 0, 1]]


def test_bernoulli_rate_is_the_pixel() -> None:
    image = np.linspace(0, 1, 11, dtype=np.float32).reshape(1, 1, 1, 11)
    spikes = bernoulli(np.repeat(image, 200, axis=0), 64, 3, np.arange(200))
    rates = spikes.mean(axis=(0, 1, 2, 4))
    assert rates[0] == 0
    assert rates[10] == 1
    # 12,800 draws each: four standard deviations are below 0.018
    assert np.abs(rates - image.reshape(-1)).max() < 0.018


@pytest.mark.parametrize("bits", range(2, 9))
def test_direct_repeats_the_rounded_integer(bits: int) -> None:
    top = 2**bits - 1
    x = pixels(*(k / top for k in range(top + 1)), 0.4999 / top, 0.5001 / top)
    values = direct(x, 3, bits).reshape(-1, 3)
    expected = [*range(top + 1), 0, 1]
    assert values.tolist() == [[v] * 3 for v in expected]


def test_encode_picks_the_configured_encoding() -> None:
    images = some_images()
    rate = encode(images, EncodingConfig("deterministic"), 4)
    assert (rate == deterministic(images, 4)).all()
    wide = encode(images, EncodingConfig("direct", bits=8), 4)
    assert (wide == direct(images, 4, 8)).all()
    random = encode(images, EncodingConfig("bernoulli", seed=5), 4, first_index=3)
    assert (random == bernoulli(images, 4, 5, np.arange(3, 8))).all()


@given(
    taps=st.lists(st.integers(-128, 127).map(lambda w: 2 * w), min_size=1, max_size=40),
    bias=st.integers(-4096, 4095),
)
@settings(deadline=None)
def test_direct_bits_is_the_most_that_the_limits_allow(taps: list[int], bias: int) -> None:
    link = Connection("input", "dense", np.array([taps], np.int16))
    node = Node("first", (1, 1, 1), Neuron(), np.array([bias], np.int32), (link,))
    chosen = direct_bits(max(worst_case_sums(node)), abs(bias), growth=2)
    check_sums(node, chosen, 4)
    if chosen < 8:
        # A worst case in the other sign may still pass: the helper takes the larger of the two.
        worst = max(worst_case_sums(node, chosen + 1))
        assert (worst + abs(bias)) * 2 > 131_071


def test_direct_bits_refuses_what_cannot_fit() -> None:
    assert direct_bits(131_071 // 3) == 2
    assert direct_bits(515) == 7
    assert direct_bits(514) == 8
    with pytest.raises(ConfigError, match=r"can reach 131073, the limit is 131071"):
        direct_bits(43_691)
    link = Connection("input", "dense", np.full((1, 2000), -256, np.int16))
    node = Node("first", (1, 1, 1), Neuron(), np.zeros(1, np.int32), (link,))
    with pytest.raises(NetError):
        check_sums(node, 2, 4)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 3), np.float32), "expected floats"),
        (np.zeros((1, 1, 2, 2), np.uint8), "images to encode are uint8"),
        (np.full((1, 1, 2, 2), 1.5, np.float32), "outside"),
        (np.full((1, 1, 2, 2), -0.1, np.float32), "outside"),
        (np.full((1, 1, 2, 2), np.nan, np.float32), "outside"),
    ],
)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_bad_images_are_refused(images: np.ndarray, message: str, config: EncodingConfig) -> None:
    with pytest.raises(DataError, match=message):
        encode(images, config, 4)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_no_timesteps_are_refused(config: EncodingConfig) -> None:
    with pytest.raises(ConfigError, match="T_max is 0"):
        encode(some_images(), config, 0)


def test_bernoulli_wants_one_index_per_image() -> None:
    with pytest.raises(DataError, match="as many indices"):
        bernoulli(some_images(2), 2, 0, np.array([1]))
    with pytest.raises(DataError, match="as many indices"):
        bernoulli(some_images(1), 2, 0, np.array([-1]))


def test_direct_refuses_bits_out_of_range() -> None:
    with pytest.raises(ConfigError, match="9 bits"):
        direct(some_images(), 2, 9)


def test_an_empty_batch_is_encoded_as_one() -> None:
    empty = np.zeros((0, 1, 2, 2), np.float32)
    for config in CONFIGS:
        assert encode(empty, config, 3).shape == (0, 1, 2, 2, 3)


def test_importing_data_brings_neither_torch_nor_scikit_learn() -> None:
    import subprocess

    code = (
        "import sys, neucodex_lava.data\n"
        "print(sorted({'torch', 'torchvision', 'sklearn'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
