"""What can be asked for of datasets: configuration, its JSON, and the options of train."""

from typing import Any

import pytest
import tyro

from neucodex_lava.cli.data_options import DataOptions
from neucodex_lava.config import DataConfig, EncodingConfig, from_dict, to_dict
from neucodex_lava.errors import ConfigError

SPIKES = EncodingConfig("events", bits=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "nmnist"}, "'nmnist' and encoding 'deterministic' do not go together"),
        ({"encoding": SPIKES}, "'digits' and encoding 'events' do not go together"),
        ({"classes": ("a", "b")}, "the classes of 'digits' cannot be chosen"),
        ({"dataset": "caltech101", "classes": ("a",)}, "at least two"),
        ({"dataset": "caltech101", "classes": ("a", "a")}, "each once"),
        ({"size": 16}, "the size of 'digits' cannot be chosen"),
        ({"dataset": "caltech101", "size": 7}, r"size 7 is outside \[8, 256\]"),
        ({"dataset": "caltech101", "size": 257}, r"size 257 is outside"),
        ({"split_seed": 1}, "samples of 'digits' are fixed"),
        ({"bins": "count"}, "'digits' holds images"),
        ({"dataset": "nmnist", "encoding": SPIKES, "bins": "x"}, "unknown binning 'x'"),
    ],
)
def test_configurations_that_are_not(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**options)


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_of_events(bits: int) -> None:
    with pytest.raises(ConfigError, match=rf"event coding with {bits} bits is outside \[1, 8\]"):
        EncodingConfig("events", bits)
    assert EncodingConfig("events", 8).input_bits == 8
    assert SPIKES.input_bits == 1


def test_json_goes_there_and_back() -> None:
    config = DataConfig(
        "ncaltech101",
        8,
        SPIKES,
        classes=("ketch", "watch"),
        size=64,
        split_seed=2,
        bins="count",
        holdout=7,
    )
    assert from_dict(DataConfig, to_dict(config)) == config


def test_configurations_written_before_there_were_events_still_load() -> None:
    old = {
        "dataset": "cifar10",
        "timesteps": 2,
        "encoding": {"name": "bernoulli", "bits": 4, "seed": 3},
        "train_limit": 0,
    }
    assert from_dict(DataConfig, old) == DataConfig("cifar10", 2, EncodingConfig("bernoulli", 4, 3))


def options(*args: str) -> DataConfig:
    return tyro.cli(DataOptions, args=args).data_config()


def test_options_of_train() -> None:
    assert options() == DataConfig()
    assert options("--dataset", "nmnist") == DataConfig("nmnist", encoding=SPIKES)
    graded = options("--dataset", "nmnist", "--bits", "3", "--bins", "count", "--timesteps", "8")
    assert graded == DataConfig("nmnist", 8, EncodingConfig("events", 3), bins="count")
    assert options("--holdout", "200") == DataConfig(holdout=200)
    direct = options("--dataset", "mnist", "--encoding", "direct", "--bits", "2")
    assert direct.encoding == EncodingConfig("direct", 2)
    chosen = options("--dataset", "caltech101", "--classes", "watch", "ketch", "--split-seed", "3")
    assert (chosen.classes, chosen.split_seed) == (("watch", "ketch"), 3)
    with pytest.raises(ConfigError, match="do not go together"):
        options("--dataset", "nmnist", "--encoding", "bernoulli")


def test_no_bits_are_no_default() -> None:
    with pytest.raises(ConfigError, match=r"direct coding with 0 bits is outside \[2, 8\]"):
        DataOptions(encoding="direct", bits=0).data_config()
