"""Training resumes exactly, ends on the exact integers, and says what is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from neucodex_lava.config import (
    BottleneckConfig,
    DataConfig,
    EncodingConfig,
    ResNetConfig,
    TrainConfig,
)
from neucodex_lava.errors import ConfigError, FormatError
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training import loop
from neucodex_lava.training.runs import load_model, read_run, save_checkpoint
from neucodex_lava.training.stages import finetune, train_base, with_fitting_bits

TINY = ResNetConfig("tiny", widths=(4, 8), blocks=(1, 1))
DATA = DataConfig(timesteps=2, train_limit=192)
TRAIN = TrainConfig(epochs=2, qat_epochs=2, batch_size=64, threads=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "base"
    train_base(folder, TINY, DATA, TRAIN)
    return folder


class Stop(Exception):
    """The machine goes down in the middle of an epoch."""


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_an_interrupted_run_ends_with_the_same_weights(
    finished: Path, tmp_path: Path, stop_after: int
) -> None:
    folder = tmp_path / "base"

    def interrupt(task: str, done: int, total: int) -> None:
        if done > stop_after * 3 + 1:
            raise Stop

    with pytest.raises(Stop):
        train_base(folder, TINY, DATA, TRAIN, progress=interrupt)
    assert len(read_run(folder).history) == stop_after
    with pytest.raises(FormatError, match=f"has done {stop_after} of 4 epochs"):
        load_model(folder)
    train_base(folder, TINY, DATA, TRAIN)
    _, expected = load_model(finished)
    run, found = load_model(folder)
    assert [h.phase for h in run.history] == ["float", "float", "integer", "integer"]
    assert found.gains == expected.gains
    for (name, a), (_, b) in zip(found.state_dict().items(), expected.state_dict().items()):
        assert torch.equal(a, b), name


def test_a_save_that_is_interrupted_leaves_the_old_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run.json", "checkpoint.pt"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    before = (tmp_path / "checkpoint.pt").read_bytes()
    _, model = load_model(tmp_path)

    def interrupted(content: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, model, {}, 9)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "run.json"]


def test_training_learns_and_both_stages_end_on_integers(finished: Path, tmp_path: Path) -> None:
    run, model = load_model(finished)
    assert run.history[0].loss > run.history[-1].loss
    net = to_integer_net(model)
    assert net.cut == len(net.nodes)
    split = finetune(
        tmp_path / "sp1", finished, BottleneckConfig(1, 2, 2), replace(TRAIN, epochs=1)
    )
    _, tuned = load_model(tmp_path / "sp1")
    assert split.bottleneck == BottleneckConfig(1, 2, 2)
    cut = to_integer_net(tuned)
    assert cut.code_shape == (2, 4, 4)
    assert cut.nodes[cut.cut].name == "decoder"
    before, after = (
        m.state_dict()["blocks.stem.synapses.0.synapse.weight"] for m in (model, tuned)
    )
    assert not torch.equal(before, after), "everything is fine-tuned, the edge head too"


def test_direct_coding_takes_the_most_bits_that_cannot_overflow() -> None:
    direct = DataConfig(timesteps=2, encoding=EncodingConfig("direct", bits=8))
    assert with_fitting_bits(direct).encoding.bits == 4
    assert 9 * 254 * (2**4 - 1) * 2 <= 131_071 < 9 * 254 * (2**5 - 1) * 2
    assert with_fitting_bits(DATA) == DATA


def test_gradients_reach_the_first_layer(finished: Path) -> None:
    _, model = load_model(finished)
    model.train()
    x = (torch.rand(2, 16, 1, 8, 8) < 0.4).float()
    loss = loop.every_step_loss(model(x), torch.arange(16) % 10, 0.0)
    loss.backward()
    norms = [
        float(link.synapse.weight.grad.norm() / link.synapse.weight.norm())
        for block in model.block_list()
        for link in block.links()
        if link.synapse is not None
    ]
    assert min(norms) > 1e-3 * max(norms)


def test_another_run_in_the_folder_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another configuration"):
        train_base(finished, TINY, DATA, replace(TRAIN, lr=1e-3))
    (tmp_path / "letters").write_text("dear diary")
    with pytest.raises(ConfigError, match="not empty and holds no run"):
        train_base(tmp_path, TINY, DATA, TRAIN)


def test_damaged_runs_are_one_clear_line(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"has no run\.json"):
        load_model(tmp_path)
    raw = json.loads((finished / "run.json").read_text())
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    with pytest.raises(FormatError, match="is not a run"):
        load_model(broken)
    (broken / "run.json").write_text(json.dumps(raw | {"version": 99}))
    with pytest.raises(FormatError, match="not of version 1"):
        load_model(broken)
    (broken / "run.json").write_text(json.dumps(raw))
    with pytest.raises(FormatError, match=r"has no checkpoint\.pt"):
        load_model(broken)
    (broken / "checkpoint.pt").write_bytes((finished / "checkpoint.pt").read_bytes()[:2000])
    with pytest.raises(FormatError, match="not a checkpoint|cannot be loaded"):
        load_model(broken)
    (broken / "checkpoint.pt").write_bytes((finished / "checkpoint.pt").read_bytes())
    other = raw | {"model": raw["model"] | {"widths": [8, 8]}}
    (broken / "run.json").write_text(json.dumps(other))
    with pytest.raises(FormatError, match="cannot be loaded into this network"):
        load_model(broken)


def test_a_code_running_checkpoint_is_refused(finished: Path, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "owned",))

    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "run.json").write_text((finished / "run.json").read_text())
    (folder / "checkpoint.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(FormatError):
        load_model(folder)
    assert not (tmp_path / "owned").exists()
