"""A dataset through the executor, part by part: resumable, the same in any order, confirmed in Lava."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain import leaky_net, random_net, run_plain

from neucodex_lava.errors import ConfigError, DataError, SimulationError
from neucodex_lava.evaluation import dataset_run
from neucodex_lava.evaluation.dataset_run import DatasetRun, confirm, random_subset, run_dataset
from neucodex_lava.evaluation.parts import RUN_FILE, Part
from neucodex_lava.evaluation.samples import GivenSamples, Rows
from neucodex_lava.integer_net import IntegerNet, Neuron

SEED = 4


@pytest.fixture(autouse=True)
def _parts_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_run, "PART", 4)


def many(seed: int, readout: bool, samples: int = 18) -> tuple[IntegerNet, GivenSamples]:
    net, inputs = random_net(seed, readout)
    rng = np.random.default_rng(seed)
    mixed = np.stack([rng.permuted(inputs[i % len(inputs)], axis=2) for i in range(samples)])
    return net.with_cut(len(net.nodes)), GivenSamples(mixed)


def expect_plain(net: IntegerNet, samples: GivenSamples, found: DatasetRun) -> None:
    spikes, potential, ledger = run_plain(net, samples.inputs)
    assert found.all.ledger.first_difference(ledger) is None
    last = net.nodes[-1]
    flat = spikes[last.name].reshape(len(samples), -1)
    unpacked = np.unpackbits(found.all.code, axis=1, count=flat.shape[1])
    np.testing.assert_array_equal(unpacked, flat)
    if last.neuron.is_readout:
        final = potential[last.name].reshape(found.all.sums.shape)
        np.testing.assert_array_equal(found.all.sums, np.sign(final) * (np.abs(final) >> 6))
    else:
        assert found.all.sums.size == 0


def assert_same(a: Part, b: Part) -> None:
    for name, array in a.arrays().items():
        np.testing.assert_array_equal(array, b.arrays()[name], err_msg=name)


@pytest.mark.parametrize("readout", [False, True])
@pytest.mark.parametrize("batch_size", [None, 1, 3, 4, 7])
def test_parts_are_what_the_plain_interpreter_finds(
    readout: bool, batch_size: int | None, tmp_path: Path
) -> None:
    net, samples = many(SEED, readout)
    seen: list[tuple[int, int]] = []
    found = run_dataset(
        net,
        samples,
        batch_size=batch_size,
        folder=tmp_path / "run",
        progress=lambda done, total: seen.append((done, total)),
    )
    expect_plain(net, samples, found)
    assert found.resumed == 0
    assert seen[-1] == (18, 18)
    assert seen == sorted(seen)
    names = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert names == [*(f"part-{first:08d}.npz" for first in range(0, 18, 4)), RUN_FILE]


class Interrupted(GivenSamples):
    """Ctrl-C comes when this sample is taken."""

    at = 10

    def take(self, rows: Rows = slice(None)) -> Any:
        assert isinstance(rows, slice)
        if rows.start <= self.at < rows.stop:
            raise KeyboardInterrupt
        return super().take(rows)


class Counted(GivenSamples):
    """Remembers which samples were taken."""

    def __init__(self, inputs: np.ndarray) -> None:
        super().__init__(inputs)
        object.__setattr__(self, "taken", [])

    def take(self, rows: Rows = slice(None)) -> Any:
        assert isinstance(rows, slice)
        self.taken.extend(range(rows.start, rows.stop))  # type: ignore[attr-defined]
        return super().take(rows)


def test_an_interrupted_run_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    net, samples = many(SEED, readout=True)
    whole = run_dataset(net, samples)
    with pytest.raises(KeyboardInterrupt):
        run_dataset(net, Interrupted(samples.inputs), batch_size=2, folder=tmp_path)
    assert not list(tmp_path.glob("*.tmp"))
    finished = len(list(tmp_path.glob("part-*")))
    assert finished >= 1
    rest = Counted(samples.inputs)
    found = run_dataset(net, rest, batch_size=3, folder=tmp_path)
    assert found.resumed == 4 * finished
    assert rest.taken == list(range(4 * finished, 18))  # type: ignore[attr-defined]
    assert_same(found.all, whole.all)
    none = Counted(samples.inputs)
    again = run_dataset(net, none, folder=tmp_path)
    assert (again.resumed, none.taken) == (18, [])  # type: ignore[attr-defined]
    assert_same(again.all, whole.all)


def damages(path: Path) -> dict[str, bytes]:
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    return {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "noise": bytes(range(256)) * 9,
        "bit": bytes(flipped),
    }


@pytest.mark.parametrize("damage", ["empty", "truncated", "noise", "bit"])
def test_a_damaged_part_is_run_again(damage: str, tmp_path: Path) -> None:
    net, samples = many(SEED, readout=True)
    whole = run_dataset(net, samples, folder=tmp_path)
    part = tmp_path / "part-00000008.npz"
    part.write_bytes(damages(part)[damage])
    found = run_dataset(net, samples, folder=tmp_path)
    assert found.resumed == 14
    assert_same(found.all, whole.all)
    assert run_dataset(net, samples, folder=tmp_path).resumed == 18


def change(path: Path, **arrays: Any) -> None:
    with np.load(path) as file:
        content = {name: file[name] for name in file.files}
    np.savez(path, **(content | arrays))


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 2, 9), np.int64), np.zeros(3), np.array([len], object)],
    ids=["shape", "type", "pickle"],
)
def test_a_part_of_another_form_is_run_again(array: Any, tmp_path: Path) -> None:
    net, samples = many(SEED, readout=True)
    whole = run_dataset(net, samples, folder=tmp_path)
    change(tmp_path / "part-00000004.npz", syn_ops=array)
    found = run_dataset(net, samples, folder=tmp_path)
    assert found.resumed == 14
    assert_same(found.all, whole.all)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    net, samples = many(SEED, readout=True)
    run_dataset(net, samples, folder=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    first = net.nodes[0]
    other_net = net.with_nodes(replace(first, neuron=Neuron(threshold=1 + first.neuron.threshold)))
    changed = samples.inputs.copy()
    changed[-1, 0, 0, 0, 0] ^= 1
    cases = [
        (other_net, samples, "another 'net'"),
        (net, GivenSamples(changed), "another 'sha256'"),
        (net, GivenSamples(samples.inputs[:-1]), "another 's"),
    ]
    for wrong_net, wrong_samples, expected in cases:
        with pytest.raises(ConfigError, match=f"holds another simulation, with {expected}"):
            run_dataset(wrong_net, wrong_samples, folder=tmp_path)
    path = tmp_path / RUN_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(ConfigError, match="another 'version'"):
        run_dataset(net, samples, folder=tmp_path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        run_dataset(net, samples, folder=tmp_path)
    path.write_bytes(before[RUN_FILE])
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    net, samples = many(SEED, readout=True)
    note = tmp_path / "note.txt"
    note.write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and holds no simulation"):
        run_dataset(net, samples, folder=tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        run_dataset(net, samples, folder=note)
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_what_cannot_be_run_is_refused() -> None:
    net, samples = many(SEED, readout=True)
    with pytest.raises(DataError, match="no samples"):
        run_dataset(net, GivenSamples(samples.inputs[:0]))
    with pytest.raises(DataError, match="above 1"):
        run_dataset(net, GivenSamples(2 * samples.inputs))
    with pytest.raises(DataError, match="the network takes"):
        run_dataset(net, GivenSamples(samples.inputs[:, :1]))
    with pytest.raises(ConfigError, match="batch size 0"):
        run_dataset(net, samples, batch_size=0)


@pytest.mark.lava
@pytest.mark.parametrize("readout", [False, True])
def test_lava_confirms_and_finds_every_change(readout: bool) -> None:
    net, samples = many(SEED, readout)
    found = run_dataset(net, samples).all
    chosen = np.array([2, 5, 17])
    assert confirm(net, samples, found, chosen) > 0
    spiked = found.code.copy()
    spiked[5, 0] ^= 0x80
    with pytest.raises(SimulationError, match="spikes of the last node of sample 5 differ"):
        confirm(net, samples, replace(found, code=spiked), chosen)
    if readout:
        summed = found.sums.copy()
        summed[17, 0, -1] += 1
        with pytest.raises(SimulationError, match="running sums of sample 17 differ"):
            confirm(net, samples, replace(found, sums=summed), chosen)
    for count in (
        "spikes_in",
        "syn_ops",
        "syn_ops_nonzero",
        "macs",
        "dendrite_updates",
        "axon_out",
    ):
        counts = getattr(found.ledger, count).copy()
        counts[2, 0, 0] += 1
        wrong = replace(found, ledger=replace(found.ledger, **{count: counts}))
        name = net.nodes[0].name
        with pytest.raises(
            SimulationError, match=f"{count} of node '{name}' at timestep 1 of sample 2"
        ):
            confirm(net, samples, wrong, chosen)


def test_the_random_subset() -> None:
    assert random_subset(10_000, 4, seed=0).tolist() == random_subset(10_000, 4, seed=0).tolist()
    assert random_subset(10_000, 4, seed=0).tolist() != random_subset(10_000, 4, seed=1).tolist()
    for seed in range(20):
        chosen = random_subset(30, 20, seed)
        assert len(set(chosen.tolist())) == 20
        assert chosen.tolist() == sorted(chosen)
        assert 0 <= chosen.min() <= chosen.max() < 30
    assert random_subset(5, 5, 3).tolist() == [0, 1, 2, 3, 4]
    # Philox's words are the same in every version of numpy.
    assert random_subset(100, 5, 0).tolist() == [0, 43, 54, 66, 69]


class Made(GivenSamples):
    """As many samples as wanted, each made when it is taken."""

    samples = 600

    def __len__(self) -> int:
        return self.samples

    def take(self, rows: Rows = slice(None)) -> Any:
        assert isinstance(rows, slice)
        return np.repeat(self.inputs, rows.stop - rows.start, axis=0)

    def identity(self) -> dict[str, Any]:
        return {}


def test_memory_holds_counts_and_packed_codes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_run, "PART", 100)
    net, inputs = leaky_net()
    samples = Made(inputs[:1])
    run_dataset(net, GivenSamples(inputs))
    tracemalloc.start()
    found = run_dataset(net, samples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = sum(array.nbytes for array in found.all.arrays().values())
    unpacked = 600 * net.nodes[-1].size * 20
    assert unpacked > 2 * kept
    assert kept < peak < kept + unpacked / 4
