"""A user's network, checkpoint and samples become a run; what cannot is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neucodex_lava import import_blocks
from neucodex_lava.config import BottleneckConfig, DataConfig, EncodingConfig, TrainConfig
from neucodex_lava.data import load
from neucodex_lava.errors import ConfigError, DataError, FormatError, NetError
from neucodex_lava.export import export_run
from neucodex_lava.models.imported import read_blocks
from neucodex_lava.models.slayer import block, norm
from neucodex_lava.training.runs import load_model
from neucodex_lava.training.stages import finetune
from neucodex_lava.verify import verify

DATA = DataConfig("digits", timesteps=6)
SLOW: dict[str, Any] = {"threshold": 0.5, "current_decay": 0.3, "voltage_decay": 0.1}


def neuron(**other: Any) -> dict[str, Any]:
    """Parameters in a dict of their own: some blocks of SLAYER change the one they get."""
    return SLOW | other


class Network(nn.Module):
    """Convolution, pool and two dense blocks, with all that a checkpoint has to bring back."""

    def __init__(self, outputs: int = 10, channels: int = 4) -> None:
        super().__init__()
        normed = neuron(norm=norm.MeanOnlyBatchNorm)
        self.blocks = nn.ModuleList(
            [
                block.Conv(normed, 1, channels, 3, padding=1, weight_scale=3, weight_norm=True),
                block.Pool(neuron(), 2, weight_scale=0.5),
                block.Flatten(),
                block.Dense(normed, channels * 16, 20, weight_scale=4, delay=True),
                block.Dense(neuron(), 20, outputs, weight_scale=6, weight_norm=True),
            ]
        )

    def forward(self, x: Any) -> Any:
        for b in self.blocks:
            x = b(x)
        return x


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    """A network after a few forward passes in training mode, and its checkpoint."""
    torch.manual_seed(3)
    network = Network()
    x = torch.from_numpy(load(DATA, split="train").take(slice(64)).inputs(DATA)).float()
    with torch.no_grad():
        for _ in range(5):
            network(x)
    path = tmp_path_factory.mktemp("checkpoint") / "network.pt"
    torch.save(network.state_dict(), path)
    return network.eval(), path


@pytest.fixture(scope="module")
def base(trained: tuple[Network, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "base"
    import_blocks(Network(), folder, data=DATA, checkpoint=trained[1], name="mine")
    return folder


def test_the_run_counts_the_spikes_that_the_checkpoint_gives(
    trained: tuple[Network, Path], base: Path
) -> None:
    run, model = load_model(base)
    assert (run.model.architecture, run.classes, run.input_shape) == ("mine", 10, (1, 8, 8))
    assert dict(model.split_points) == {1: 1, 2: 2, 3: 3}
    x = load(DATA, split="test").take(slice(100)).inputs(DATA)
    with torch.no_grad():
        counts = trained[0](torch.from_numpy(x).float()).cumsum(-1).numpy()
    assert counts[..., -1].std() > 0.5
    assert np.array_equal(model.run_slayer(x).sums, counts * 8 * model.gains["readout"])


@pytest.mark.lava
def test_it_is_fine_tuned_exported_and_verified(base: Path, tmp_path: Path) -> None:
    bundle = export_run(base, tmp_path / "base")
    report = verify(bundle, run=base, backends=("slayer", "twin", "fused"))
    assert (report.spike_differences, report.potential_differences) == (0, 0)
    assert report.counter_differences == 0
    bottleneck = BottleneckConfig(split=2, channels=2, kernel=1)
    train = TrainConfig(epochs=1, qat_epochs=1, batch_size=128)
    run = finetune(tmp_path / "sp2", base, bottleneck, train)
    assert run.history[-1].phase == "integer"
    split = export_run(tmp_path / "sp2", tmp_path / "sp2-bundle", base=tmp_path / "base")
    assert (split.manifest.split, split.manifest.base) == ("SP2", bundle.sha256)
    report = verify(split, run=tmp_path / "sp2", backends=("slayer", "twin", "fused"))
    assert (report.spike_differences, report.counter_differences) == (0, 0)


def test_fine_tuning_moves_every_weight(base: Path, tmp_path: Path) -> None:
    train = TrainConfig(epochs=1, qat_epochs=1, batch_size=256, weight_decay=0.0)
    finetune(tmp_path, base, BottleneckConfig(split=1, channels=3), train)
    before, after = load_model(base)[1], load_model(tmp_path)[1]
    for b in before.block_list():
        old, new = b.links()[0], after.blocks[b.name].links()[0]  # type: ignore[operator]
        assert float((old.synapse.weight - new.synapse.weight).abs().max()) > 1e-4, b.name


def dense(**other: Any) -> Any:
    return block.Dense(neuron(**other), 64, 10)


def with_delays(layer: Any) -> Any:
    layer.delay.delay.data, layer.delay.init = torch.tensor([0.5, 1.5]), True
    return layer


def with_nan(layer: Any) -> Any:
    layer.synapse.weight.data[0, 0] = float("nan")
    return layer


def with_means(layer: Any, means: int) -> Any:
    layer.neuron.norm.running_mean = torch.zeros(means)
    return layer


def with_hook(layer: Any) -> Any:
    layer.synapse.pre_hook_fx = lambda w: 1.1 * w
    return layer


CONV = (1, 2, 3)
REFUSED: dict[str, tuple[Any, str]] = {
    "transposed": ([block.ConvT(neuron(), *CONV)], "block 0 .ConvT.: blocks of type"),
    "recurrent": ([block.Recurrent(neuron(), 64, 10)], "block 0 .Recurrent."),
    "not a block": ([nn.Linear(64, 10)], "block 0 .Linear.: blocks of type torch.nn"),
    "state that persists": ([dense(persistent_state=True)], "persistent_state"),
    "graded spikes": ([dense(graded_spike=True)], "graded spikes"),
    "decays of their own": ([dense(shared_param=False)], "shared_param"),
    "scale": ([dense(scale=100)], "scale 100 is no power of two"),
    "threshold": ([dense(threshold=70.0)], "threshold is 4480 steps of 1/64"),
    "no threshold": ([dense(threshold=0.001)], "threshold is 0 steps"),
    "norm": ([dense(norm=norm.WgtScaleBatchNorm)], "WgtScaleBatchNorm cannot be imported"),
    "NaN": ([with_nan(dense())], "weights hold NaN"),
    "means": ([with_means(dense(norm=norm.MeanOnlyBatchNorm), 9)], "9 means for 10 channels"),
    "biased current": (
        [block.Input(neuron(), weight=1.0, bias=0.5), dense()],
        "its bias passes through a current with memory",
    ),
    "hook": ([with_hook(dense())], "no even 8-bit multiples of 1/64"),
    "voltage readout": (
        [dense(), block.Affine(neuron(), 10, 10)],
        r"block 1 .Affine.: its voltage leaks .*dynamics=False",
    ),
    "no flatten": (
        [block.Conv(neuron(), *CONV), block.Dense(neuron(), 72, 10)],
        "put a Flatten before it",
    ),
    "wrong size": ([block.Dense(neuron(), 63, 10)], r"takes 63 neurons, its input has 64"),
    "wrong channels": ([block.Conv(neuron(), 3, 2, 3)], "takes 3 channels, its input has 1"),
    "large kernel": ([block.Conv(neuron(), 1, 2, 9)], "kernel is larger than its input"),
    "conv after flatten": ([block.Flatten(), block.Conv(neuron(), *CONV)], "comes after a flatten"),
    "uneven pool": ([block.Pool(neuron(), 3)], r"pools \(3, 3\) of 8x8"),
    "map at the end": ([block.Conv(neuron(), *CONV)], r"gives maps of \(2, 6, 6\)"),
    "after the output": (
        [dense(), block.Affine(neuron(), 10, 10, dynamics=False), dense()],
        "comes after the output",
    ),
    "delays by channel": (
        [with_delays(block.Conv(neuron(), *CONV, delay=True)), block.Conv(neuron(), 2, 2, 3)],
        r"block 1 .Conv.: the channels before it have delays of their own",
    ),
    "delays never drawn": ([block.Conv(neuron(), *CONV, delay=True)], "delays were never set"),
    "nothing": ([block.Flatten()], "no block with neurons"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_imported_is_refused_by_name(case: str) -> None:
    blocks, message = REFUSED[case]
    with pytest.raises(NetError, match=message) as caught:
        read_blocks(blocks, (1, 8, 8), 6, "mine")
    assert "\n" not in str(caught.value)


def test_a_network_of_one_layer_has_no_split_point() -> None:
    with pytest.raises(ConfigError, match="no spiking layer before the output"):
        read_blocks([dense()], (1, 8, 8), 6, "mine")


def test_an_input_block_takes_no_values_that_its_quantiser_clips() -> None:
    blocks = [block.Input(neuron()), dense(), dense()]
    with pytest.raises(NetError, match="clips input of up to 15"):
        read_blocks(blocks, (1, 8, 8), 6, "mine", input_bits=4)


def broken(path: Path, content: Any) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return path


def test_bad_checkpoints_and_folders_are_refused(
    trained: tuple[Network, Path], base: Path, tmp_path: Path
) -> None:
    good, out = trained[1], tmp_path / "run"
    whole = torch.load(good, weights_only=True)
    renamed = {
        ("blocks.9." + k[9:] if k.startswith("blocks.0") else k): v for k, v in whole.items()
    }
    for content, message in (
        (good.read_bytes()[:2000], "holds no plain weights"),
        (b"", "holds no plain weights"),
        ([1, 2], "holds no state dict"),
        (nn.Linear(2, 2), "holds no plain weights"),
        (renamed, "does not fit the blocks"),
        (Network(channels=5).state_dict(), "does not fit the blocks"),
    ):
        path = broken(tmp_path / "bad.pt", content)
        with pytest.raises(FormatError, match=message) as caught:
            import_blocks(Network(), out, data=DATA, checkpoint=path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FormatError, match="is not a file"):
        import_blocks(Network(), out, data=DATA, checkpoint=tmp_path / "none.pt")
    network = Network(outputs=7)
    network(torch.zeros(1, 1, 8, 8, 6))
    with pytest.raises(ConfigError, match="7 outputs, but digits has 10 classes"):
        import_blocks(network, out, data=DATA)
    with pytest.raises(ConfigError, match="not empty"):
        import_blocks(Network(), base, data=DATA, checkpoint=good)
    with pytest.raises(ConfigError, match="a Linear, has no list of layers called 'blocks'"):
        import_blocks(nn.Linear(2, 2), out, data=DATA, checkpoint=good)
    with pytest.raises(ConfigError, match="no name"):
        import_blocks(Network(), out, data=DATA, checkpoint=good, name="../x")
    assert not out.exists()


def test_a_checkpoint_of_the_blocks_alone_is_the_same(
    trained: tuple[Network, Path], base: Path, tmp_path: Path
) -> None:
    torch.save({"state_dict": trained[0].blocks.state_dict()}, tmp_path / "blocks.pt")
    blocks = list(Network().blocks)
    import_blocks(blocks, tmp_path / "run", data=DATA, checkpoint=tmp_path / "blocks.pt")
    ours, theirs = load_model(tmp_path / "run")[1], load_model(base)[1]
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


def write(root: Path, split: str, **arrays: Any) -> None:
    (root / "own").mkdir(exist_ok=True)
    np.savez(root / "own" / f"{split}.npz", **arrays)


def test_samples_of_ones_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 9, (6, 3, 5, 4, 7), dtype=np.uint8)
    write(tmp_path, "train", samples=frames, labels=np.array([0, 1, 2, 0, 1, 2]))
    write(tmp_path, "test", samples=frames[:2], labels=np.array([1, 3], np.int32))
    events = DataConfig("own", timesteps=7, encoding=EncodingConfig("events", bits=2))
    train = load(events, tmp_path, "train")
    assert (train.shape, len(train), train.classes) == ((3, 5, 4), 6, ("0", "1", "2", "3"))
    assert np.array_equal(train.inputs(events), np.minimum(frames, 3)[train.index])
    assert np.array_equal(train.labels, np.array([0, 1, 2, 0, 1, 2])[train.index])
    assert sorted(train.index) == [0, 1, 2, 3, 4, 5]
    assert list(train.index) != [0, 1, 2, 3, 4, 5]  # whoever sorts by class trains on all classes
    images = DataConfig("own", timesteps=2, encoding=EncodingConfig("direct", bits=8))
    with pytest.raises(DataError, match=r"not uint8 images \(N, C, H, W\)"):
        load(images, tmp_path, "test")
    for split in ("train", "test"):
        write(tmp_path, split, samples=frames[..., 0], labels=np.array([0, 1, 2, 0, 1, 2]))
    test = load(images, tmp_path, "test")
    assert np.array_equal(test.inputs(images)[..., 1], frames[..., 0])


def test_bad_samples_of_ones_own(tmp_path: Path) -> None:
    config = DataConfig("own", timesteps=2)
    samples, labels = np.zeros((3, 1, 4, 4), np.uint8), np.array([0, 1, 1])
    for arrays, message in (
        ({"samples": samples}, "holds no arrays"),
        ({"samples": samples.astype(np.float32), "labels": labels}, "are float32"),
        ({"samples": samples[:0], "labels": labels[:0]}, r"are uint8 \(0, 1, 4, 4\)"),
        ({"samples": samples, "labels": labels[:2]}, "an integer from 0 for each of 3"),
        ({"samples": samples, "labels": labels - 1}, "an integer from 0"),
        ({"samples": samples, "labels": labels + 0.5}, "float64"),
        ({"samples": np.array([object()]), "labels": labels}, "holds no arrays"),
    ):
        write(tmp_path, "train", **arrays)
        with pytest.raises(DataError, match=message) as caught:
            load(config, tmp_path, "train")
        assert "\n" not in str(caught.value)
    write(tmp_path, "train", samples=samples, labels=labels)
    with pytest.raises(DataError, match=r"own/test.npz' is missing"):
        load(config, tmp_path, "train")
    write(tmp_path, "test", samples=samples[..., :3], labels=labels)
    for split, told in (
        ("train", r"of train.npz are \(1, 4, 4\), of test.npz \(1, 4, 3\)"),
        ("test", r"of test.npz are \(1, 4, 3\), of train.npz \(1, 4, 4\)"),
    ):
        with pytest.raises(DataError, match=told):
            load(config, tmp_path, split)
    (tmp_path / "own" / "test.npz").write_bytes(b"PK\3\4 not a zip")
    with pytest.raises(DataError, match="holds no arrays"):
        load(config, tmp_path, "test")
