"""Recordings of events all the way: files, frames, a quantised network, and Lava."""

import os

import numpy as np
import pytest
import torch

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.config import DataConfig, EncodingConfig, ResNetConfig
from neucodex_lava.data import load
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.models.backbones.resnet import build_resnet
from neucodex_lava.models.split import SplitModel
from neucodex_lava.quantize import to_integer_net

TINY = ResNetConfig("tiny", widths=(4, 8), blocks=(1, 1), stem_stride=2)
needs_data = (
    pytest.mark.data,
    pytest.mark.skipif(
        "NEUCODEX_DATA" not in os.environ, reason="NEUCODEX_DATA names no data root"
    ),
)


def quantised(x: torch.Tensor, classes: int, bits: int) -> SplitModel:
    """Random weights, batch norms that saw the frames (T, N, C, H, W), the integer phase."""
    torch.manual_seed(0)
    steps, _, c, h, w = x.shape
    model = build_resnet(TINY, (c, h, w), classes, steps, bits)
    for block in model.block_list():
        for link in block.links():
            if link.bn is not None:
                link.bn.momentum = None
                torch.nn.init.uniform_(link.bn.bias, 0.2, 1.0)
    model.train()
    model(x)
    model.quantise(x)
    return model.eval()


@pytest.mark.lava
@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize(
    ("dataset", "split", "size", "samples"),
    [
        ("digitsdvs", "test", 0, 2),
        pytest.param("dvs128gesture", "test", 32, 3, marks=needs_data),
        pytest.param("ncaltech101", "all", 40, 1, marks=needs_data),
        pytest.param("nmnist", "test", 0, 3, marks=needs_data),
    ],
)
def test_from_recordings_to_lava(
    dataset: str,
    split: str,
    size: int,
    samples: int,
    bits: int,
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEUCODEX_CACHE", str(tmp_path))
    data = DataConfig(dataset, 3, EncodingConfig("events", bits), size=size)  # type: ignore[arg-type]
    found = load(data, split=split)  # type: ignore[arg-type]
    frames = found.inputs(data, slice(0, samples))
    assert frames.shape == (samples, *found.shape, 3)
    assert (1 if bits == 1 else 4) <= frames.max() < 2**bits

    x = torch.from_numpy(np.moveaxis(frames, -1, 0).copy()).float()
    model = quantised(x, max(2, len(found.classes)), bits)
    with torch.no_grad():
        outputs = model(x)
    net = to_integer_net(model)
    twin = run_twin(Executor(net), frames, record=True)
    lava = simulate(net, frames, record=True)
    assert twin.sums is not None
    assert lava.sums is not None
    assert lava.spikes is not None
    assert twin.spikes is not None
    assert (lava.sums == twin.sums).all()
    assert lava.ledger.first_difference(twin.ledger) is None
    fired = 0
    for name, spikes in twin.spikes.items():
        assert (lava.spikes[name] == spikes).all(), name
        fired += int(spikes.sum())
    assert fired > 1000, "the comparison is of something"
    assert len(np.unique(twin.sums)) > samples
    # the trained form says the same: y(t) = S_t / (gain t)
    t = np.arange(1, 4)
    gain = model.gains[net.nodes[-1].name]
    mine = outputs.permute(1, 2, 0).numpy() * gain * t
    assert np.abs(mine - twin.sums).max() < 1e-2
