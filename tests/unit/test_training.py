"""Training resumes exactly, ends on the exact integers, and says what is wrong."""

import contextlib
import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from neucodex_lava.config import (
    AugmentConfig,
    BottleneckConfig,
    DataConfig,
    EncodingConfig,
    ResNetConfig,
    TrainConfig,
)
from neucodex_lava.errors import ConfigError, FormatError, NetError
from neucodex_lava.export import training_papers
from neucodex_lava.files import replacing
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training import checkpoints
from neucodex_lava.training.averaging import WeightAverage
from neucodex_lava.training.checkpoints import Position, read_checkpoint, save_checkpoint
from neucodex_lava.training.forward import Forward
from neucodex_lava.training.loop import Execution
from neucodex_lava.training.losses import every_step_loss
from neucodex_lava.training.optimisation import learning_rate, make_optimiser
from neucodex_lava.training.runs import load_model, read_run
from neucodex_lava.training.stages import finetune, train_base, with_fitting_bits
from neucodex_lava.training.starting import require_unseen

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

    @contextlib.contextmanager
    def interrupted(path: Path) -> Iterator[BinaryIO]:
        with replacing(path) as file:
            yield file
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "replacing", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, Position(9), model, make_optimiser(model, TRAIN))
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
    loss = every_step_loss(model(x), torch.arange(16) % 10, 0.0)
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
    torch.save({"epoch": 1}, broken / "checkpoint.pt")
    with pytest.raises(FormatError, match="is not a checkpoint"):
        load_model(broken)
    saved = read_checkpoint(finished)
    saved["epoch"], saved["optimiser"]["param_groups"] = 3, []
    torch.save(saved, broken / "checkpoint.pt")
    with pytest.raises(FormatError, match="is no checkpoint of this run"):
        train_base(broken, TINY, DATA, TRAIN)
    (broken / "checkpoint.pt").write_bytes((finished / "checkpoint.pt").read_bytes())
    other = raw | {"model": raw["model"] | {"widths": [8, 8]}}
    (broken / "run.json").write_text(json.dumps(other))
    with pytest.raises(FormatError, match="cannot be loaded into this network"):
        load_model(broken)


@pytest.mark.parametrize(
    "damage",
    [
        {"gains": None},
        {"gains": {"stem": float("nan")}},
        {"gains": {"another": 2.0}},
        {"epoch": "x"},
        {"epoch": -1},
        {"step": 1.5},
        {"average": 3},
        {"average": {"a": 1}},
        {"totals": {"x": 1}},
        {"optimiser": None},
        {"model": []},
    ],
    ids=str,
)
def test_a_checkpoint_of_wrong_types_is_one_clear_line(
    finished: Path, tmp_path: Path, damage: dict[str, Any]
) -> None:
    (tmp_path / "run.json").write_bytes((finished / "run.json").read_bytes())
    torch.save(read_checkpoint(finished) | damage, tmp_path / "checkpoint.pt")
    with pytest.raises(FormatError, match="checkpoint"):
        load_model(tmp_path)
    with pytest.raises(FormatError, match="checkpoint"):
        train_base(tmp_path, TINY, DATA, TRAIN)


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


RECIPE = replace(
    TRAIN,
    ann_epochs=1,
    epochs=1,
    optimizer="sgd",
    lr=0.05,
    ema=0.9,
    warmup=0.5,
    clip=1.0,
    label_smoothing=0.1,
    augmentation=AugmentConfig(mixup=0.2),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of an artificial, a float, and two integer epochs, of 3 steps each."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train_base(folder, TINY, DATA, RECIPE)
    return folder


@pytest.mark.parametrize("stop_after", [2, 3, 4, 7, 11])
def test_a_run_that_stops_within_an_epoch_ends_with_the_same_weights_and_log(
    whole: Path, tmp_path: Path, stop_after: int
) -> None:
    expected_run, folder = read_run(whole), tmp_path / "stopped"
    every_batch = Execution(save_minutes=1e-9)

    def interrupt(task: str, done: int, total: int) -> None:
        if done > stop_after:
            raise Stop

    with pytest.raises(Stop):
        train_base(folder, TINY, DATA, RECIPE, progress=interrupt, execution=every_batch)
    saved = read_checkpoint(folder)
    assert saved["epoch"] * 3 + saved["step"] == stop_after
    seen: list[int] = []
    run = train_base(
        folder, TINY, DATA, RECIPE, progress=lambda task, done, total: seen.append(done)
    )
    assert seen[0] == stop_after + 1, "no step is done twice"
    _, expected = load_model(whole)
    _, found = load_model(folder)
    assert found.gains == expected.gains
    for (name, a), (_, b) in zip(found.state_dict().items(), expected.state_dict().items()):
        assert torch.equal(a, b), name
    assert [replace(h, seconds=0) for h in run.history] == [
        replace(h, seconds=0) for h in expected_run.history
    ]
    assert run.float_accuracy == expected_run.float_accuracy is not None
    assert [h.phase for h in run.history] == ["ann", "float", "integer", "integer"]


def test_an_artificial_network_is_relu_on_the_mean_of_its_input(finished: Path) -> None:
    run, _ = load_model(finished)
    torch.manual_seed(0)
    model = run.build()
    x = (torch.rand(2, 16, 1, 8, 8) < 0.4).float()
    model.set_artificial(True)
    # Asking for potentials, which an artificial network has none of, changes nothing.
    sent = Forward(model, potentials=True, recompute=False)(x)
    assert sent.outputs.shape == (1, 16, 10)
    assert not sent.potentials
    link = model.block_list()[0].links()[0]
    z = torch.nn.functional.conv2d(x.mean(0), link.synapse.weight[..., 0], padding=1)
    assert link.bn is not None
    drive = torch.nn.functional.batch_norm(
        z, None, None, link.bn.weight, link.bn.bias, training=True, eps=link.bn.eps
    )
    expected = torch.relu(drive / 2)
    assert torch.allclose(sent.values["stem"][0], expected, atol=1e-5)
    assert float(expected.max()) > 1, "not clipped where a neuron would fire"


def test_the_average_is_what_is_judged_and_exported(whole: Path) -> None:
    saved = read_checkpoint(whole)
    _, model = load_model(whole)
    name = "blocks.stem.synapses.0.synapse.weight"
    assert torch.equal(model.state_dict()[name], saved["average"]["model"][name])
    assert not torch.equal(model.state_dict()[name], saved["model"][name])


def test_an_average_follows_its_equation(finished: Path) -> None:
    _, model = load_model(finished)
    weight = model.block_list()[0].links()[0].synapse.weight
    average = WeightAverage(model, 0.9)
    expected = weight.detach().clone()
    for n in range(1, 40):
        with torch.no_grad():
            weight.add_(1.0)
        average.update(model)
        d = min(0.9, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * weight.detach()
    found = average.model.block_list()[0].links()[0].synapse.weight
    assert torch.allclose(found, expected, atol=1e-4)
    assert not found.requires_grad


def test_the_learning_rate_warms_up_and_falls_to_zero_in_each_phase() -> None:
    train = TrainConfig(epochs=10, qat_epochs=4, lr=1.0, qat_lr=0.5, warmup=2)
    assert learning_rate(train, 0) == pytest.approx(0.02)
    assert learning_rate(train, 1) == pytest.approx(0.5)
    assert learning_rate(train, 2) == pytest.approx(1.0)
    assert learning_rate(train, 6) == pytest.approx(0.5)
    assert learning_rate(train, 9.999) < 1e-4
    assert learning_rate(train, 10) == pytest.approx(0.5)
    assert learning_rate(train, 13.999) < 1e-4
    assert learning_rate(replace(train, warmup=0), 0) == 1.0
    artificial = replace(train, ann_epochs=4, ann_lr=0.1)
    assert learning_rate(artificial, 2) == pytest.approx(0.1)
    assert learning_rate(artificial, 3.999) < 1e-4
    assert learning_rate(artificial, 4 + 2) == pytest.approx(1.0)
    assert learning_rate(replace(artificial, ann_lr=0), 2) == pytest.approx(1.0)
    short = replace(train, epochs=1)
    assert learning_rate(short, 0.25) == pytest.approx(0.5)
    assert learning_rate(short, 0.5) == pytest.approx(1.0)
    assert learning_rate(short, 0.9999) < 1e-4
    with pytest.raises(ConfigError, match="spiking epochs must follow"):
        replace(artificial, epochs=0)


def test_norms_and_biases_do_not_decay(finished: Path) -> None:
    _, model = load_model(finished)
    names = {id(p): name for name, p in model.named_parameters()}
    for name in ("adamw", "sgd"):
        optimiser = make_optimiser(model, replace(TRAIN, optimizer=name, weight_decay=0.1))
        decays = {
            names[id(p)]: g["weight_decay"] for g in optimiser.param_groups for p in g["params"]
        }
        assert len(decays) == len(names)
        for key, decay in decays.items():
            assert decay == (0.1 if key.endswith("synapse.weight") else 0), key


def test_a_run_starts_from_another_of_the_same_network(finished: Path, tmp_path: Path) -> None:
    still = replace(TRAIN, epochs=0, qat_epochs=1, qat_lr=1e-12, augment=False)
    longer = replace(DATA, timesteps=3)
    train_base(tmp_path / "long", TINY, longer, still, init=finished)
    run, model = load_model(tmp_path / "long")
    assert (run.init, run.init_epochs) == (str(finished), 4)
    _, source = load_model(finished)
    for (name, p), q in zip(model.named_parameters(), source.parameters()):
        assert torch.allclose(p, q, atol=1e-6), name
    with pytest.raises(ConfigError, match="another configuration"):
        train_base(tmp_path / "long", TINY, longer, still)
    # The run it started from may be gone once there is a checkpoint.
    again = train_base(tmp_path / "long", TINY, longer, still, init=finished)
    assert again.init_epochs == 4
    first, second = training_papers(run)["commands"], training_papers(replace(run, init="gone"))
    assert first == [read_run(finished).command, run.command]
    assert second["commands"] == ["# begins with the weights of the run 'gone'", run.command]
    assert {epoch["run"] for epoch in second["log"]} == {1}


def test_a_start_from_another_network_is_one_clear_line(finished: Path, tmp_path: Path) -> None:
    wider = replace(TINY, widths=(8, 8))
    with pytest.raises(ConfigError, match=r"cannot start from run .* it has the architecture"):
        train_base(tmp_path / "a", wider, DATA, TRAIN, init=finished)
    with pytest.raises(FormatError, match="is not a run"):
        train_base(tmp_path / "b", TINY, DATA, TRAIN, init=tmp_path / "nowhere")


@pytest.mark.parametrize("change", [{}, {"train_limit": 100, "holdout": 40}, {"holdout": 30}])
def test_weights_are_not_calibrated_on_what_they_were_trained_on(
    change: dict[str, int], tmp_path: Path
) -> None:
    short = replace(TRAIN, epochs=0, qat_epochs=1)
    held = replace(DATA, holdout=40)
    train_base(tmp_path / "other", TINY, replace(DATA, **change), short)
    name = "train-limit" if "train_limit" in change else "holdout"
    with pytest.raises(
        ConfigError, match=f"its --{name} is .* would calibrate on samples that"
    ) as e:
        train_base(tmp_path / "a", TINY, held, short, init=tmp_path / "other")
    assert f"choose a run with the same --{name}" in e.value.hint
    assert not (tmp_path / "a").exists()
    # A second stage holds out what its base does.
    train_base(tmp_path / "base", TINY, held, short)
    code = BottleneckConfig(1, 2)
    if not change:
        train_base(tmp_path / "plain", TINY, DATA, short, init=tmp_path / "base")
        finetune(tmp_path / "sp1", tmp_path / "plain", code, short)
        with pytest.raises(ConfigError, match="its --holdout is 0, this run's is 40"):
            finetune(tmp_path / "b", tmp_path / "base", code, short, init=tmp_path / "sp1")
    again = train_base(tmp_path / "c", TINY, held, short, init=tmp_path / "base")
    assert again.init_epochs == 1


def test_weights_are_not_tested_on_what_they_were_trained_on() -> None:
    ours = DataConfig("caltech101", classes=("watch", "ketch"))
    source = Path("other")
    for theirs, match in (
        (replace(ours, split_seed=1), "its --split-seed is 1, this run's is 0: .* would test on"),
        (replace(ours, classes=()), "its --classes is the default, this run's is watch ketch"),
    ):
        with pytest.raises(ConfigError, match=match):
            require_unseen(ours, theirs, source)
    require_unseen(ours, replace(ours, train_limit=9, holdout=3), source)
    require_unseen(DataConfig("mnist"), ours, source)
    with pytest.raises(ConfigError, match="its --dataset is caltech101, this run's is mnist"):
        require_unseen(DataConfig("mnist", holdout=5), ours, source)


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def interrupt(task: str, done: int, total: int) -> None:
        if done > 3:
            raise Stop

    with pytest.raises(Stop):
        train_base(folder, TINY, DATA, TRAIN, progress=interrupt)
    kept = (folder / "checkpoint.pt").read_bytes()
    saved = read_checkpoint(folder)
    saved["model"]["blocks.readout.synapses.0.bias"][0] = float("nan")
    torch.save(saved, folder / "checkpoint.pt")
    damaged = (folder / "checkpoint.pt").read_bytes()
    with pytest.raises(NetError) as found:
        train_base(folder, TINY, DATA, TRAIN)
    assert found.value.message == (
        f"the loss is no number any more in epoch 2, step 1 of 3; '{folder / 'checkpoint.pt'}' is kept"
        " as it was"
    )
    assert f"--init {folder}" in found.value.hint
    assert (folder / "checkpoint.pt").read_bytes() == damaged != kept
    wild = replace(TRAIN, lr=1.0, clip=0.0, optimizer="sgd")
    with pytest.raises(
        NetError, match=r"no number any more in epoch 1, step 1 of 3; nothing is saved"
    ):
        train_base(tmp_path / "wild", TINY, DATA, wild, init=folder)


def test_a_full_disk_is_one_clear_line_and_the_old_checkpoint_stays(
    finished: Path, tmp_path: Path
) -> None:
    for name in ("run.json", "checkpoint.pt"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    before = (tmp_path / "checkpoint.pt").read_bytes()
    _, model = load_model(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ConfigError, match=r"checkpoint\.pt' cannot be written: File too large"):
            save_checkpoint(tmp_path, Position(9), model, make_optimiser(model, TRAIN))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "run.json"]


def test_a_recipe_that_the_data_cannot_take_is_refused(tmp_path: Path) -> None:
    cut = replace(TRAIN, augmentation=AugmentConfig(cutout=4))
    with pytest.raises(ConfigError, match="for photographs, and digits holds none"):
        train_base(tmp_path / "run", TINY, DATA, cut)
    assert not (tmp_path / "run").exists()


def test_an_epoch_is_told_in_one_line(tmp_path: Path) -> None:
    told: list[str] = []
    train_base(tmp_path / "run", TINY, DATA, TRAIN, execution=Execution(say=told.append))
    assert len(told) == 5
    assert told[0].startswith("train base: epoch 1/4 (float): loss 2.")
    assert told[2].startswith("train base: float network, test ")
    assert "epoch 4/4 (integer)" in told[4]
