"""A network trained on events: its bundle says how to see the same events again."""

from pathlib import Path

import numpy as np

from neucodex_lava.config import DataConfig, EncodingConfig, ResNetConfig, TrainConfig
from neucodex_lava.data import load
from neucodex_lava.evaluation.samples import load_indexed_samples, open_samples
from neucodex_lava.export import export_run
from neucodex_lava.training.stages import train_base

DATA = DataConfig(
    "digitsdvs", 2, EncodingConfig("events", bits=2, seed=4), train_limit=64, size=8, bins="count"
)


def test_from_training_to_the_samples_of_a_bundle(tmp_path: Path) -> None:
    train = TrainConfig(epochs=1, qat_epochs=1, batch_size=64, threads=1)
    train_base(tmp_path / "run", ResNetConfig("tiny", (4,), (1,)), DATA, train)
    bundle = export_run(tmp_path / "run", tmp_path / "base")
    assert (bundle.net.input_shape, bundle.net.input_bits) == ((2, 8, 8), 2)
    spikes, labels, index = load_indexed_samples(bundle, 20)
    test = load(DATA, split="test")
    assert index.tolist() == np.unique(np.linspace(0, 359, 20).astype(int)).tolist()
    assert (spikes == test.inputs(DATA)[index]).all()
    assert (labels == test.labels[index]).all()
    assert spikes.max() == 3
    first, second = (open_samples(bundle, 5).identity() for _ in range(2))
    assert first == second
    assert first["sha256"] != open_samples(bundle, 6).identity()["sha256"]
