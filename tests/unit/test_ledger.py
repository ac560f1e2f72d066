"""The ledger: selecting, cutting short, joining, comparing, and its JSON, also when hostile."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import load_join_net, run_plain

from energy.ledger import ALL_COUNTS, Ledger, Overhead
from energy.ledger_file import read_ledger, write_ledger
from neucodex_lava.errors import FormatError

NODES = ("stem", "join", "readout")
LINKS = (("stem", "input"), ("join", "stem"), ("join", "input"), ("readout", "join"))


def random_ledger(samples: int = 3, timesteps: int = 4, seed: int = 0) -> Ledger:
    rng = np.random.default_rng(seed)
    ledger = Ledger.zeros(NODES, LINKS, samples, timesteps)
    for name in ALL_COUNTS:
        array = getattr(ledger, name)
        array[:] = rng.integers(0, 1000, array.shape)
    return replace(ledger, relay=Overhead(1, 2, 3, 4, 5), outside_window=Overhead(syn_ops=9))


def same(a: Ledger, b: Ledger) -> bool:
    return (
        (a.nodes, a.connections, a.relay, a.outside_window)
        == (b.nodes, b.connections, b.relay, b.outside_window)
        and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ALL_COUNTS)
        and all(getattr(b, n).dtype == np.int64 for n in ALL_COUNTS)
    )


@given(samples=st.integers(0, 4), timesteps=st.integers(0, 4), seed=st.integers(0, 99))
@settings(deadline=None)
def test_json_round_trip(samples: int, timesteps: int, seed: int) -> None:
    ledger = random_ledger(samples, timesteps, seed)
    back = Ledger.from_json(ledger.to_json())
    assert same(ledger, back)
    assert (back.samples, back.timesteps) == (samples, timesteps)


def test_json_round_trip_of_a_ledger_without_nodes() -> None:
    # Cloud-only: nothing runs on the edge.
    ledger = random_ledger().select([])
    back = Ledger.from_json(ledger.to_json())
    assert same(ledger, back)
    assert back.axon_out.shape == (3, 0, 4)


def test_counts_by_node_and_sample() -> None:
    ledger = Ledger.zeros(NODES, LINKS, 2, 2)
    ledger.syn_ops[0, :, 0] = [1, 10, 100, 1000]
    ledger.syn_ops[1, :, 1] = [2, 20, 200, 2000]
    ledger.axon_out[1, :, 1] = [5, 6, 7]
    assert ledger.node_of("syn_ops").tolist() == [0, 1, 1, 2]
    assert ledger.node_of("axon_out").tolist() == [0, 1, 2]
    assert ledger.per_node("syn_ops")[0, :, 0].tolist() == [1, 110, 1000]
    assert ledger.per_node("axon_out")[1, :, 1].tolist() == [5, 6, 7]
    assert ledger.per_sample("syn_ops").tolist() == [1111, 2222]
    assert ledger.total("syn_ops") == 3333
    assert ledger.total("axon_out") == 18


def test_select_keeps_nodes_with_their_connections() -> None:
    ledger = random_ledger()
    part = ledger.select(["readout", "join"])
    assert part.nodes == ("join", "readout")
    assert part.connections == (("join", "stem"), ("join", "input"), ("readout", "join"))
    assert (part.syn_ops == ledger.syn_ops[:, 1:]).all()
    assert (part.axon_out == ledger.axon_out[:, 1:]).all()
    assert part.relay == ledger.relay
    assert same(ledger.select(NODES), ledger)


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_until_zeroes_exactly_what_was_not_run(data: st.DataObject) -> None:
    ledger = random_ledger(3, 5)
    last = np.array(data.draw(st.lists(st.integers(1, 5), min_size=3, max_size=3)))
    short = ledger.until(last)
    for name in ALL_COUNTS:
        for n in range(3):
            whole, cut = getattr(ledger, name)[n], getattr(short, name)[n]
            assert (cut[:, : last[n]] == whole[:, : last[n]]).all()
            assert not cut[:, last[n] :].any()
    assert short.relay == ledger.relay


@given(parts=st.lists(st.integers(0, 3), min_size=1, max_size=4))
@settings(deadline=None)
def test_concatenate_puts_samples_one_after_the_other(parts: list[int]) -> None:
    ledgers = [random_ledger(n, seed=i) for i, n in enumerate(parts)]
    joined = Ledger.concatenate(ledgers)
    assert joined.samples == sum(parts)
    start = 0
    for ledger in ledgers:
        for name in ALL_COUNTS:
            rows = getattr(joined, name)[start : start + ledger.samples]
            assert (rows == getattr(ledger, name)).all()
        start += ledger.samples
    k = len(parts)
    assert joined.relay == Overhead(k, 2 * k, 3 * k, 4 * k, 5 * k)
    assert joined.outside_window == Overhead(syn_ops=9 * k)


def test_ledgers_of_different_nets_cannot_be_concatenated() -> None:
    other = Ledger.zeros(("stem", "merge", "readout"), [("stem", "input")] * 4, 1, 4)
    with pytest.raises(ValueError, match="different nodes or connections"):
        Ledger.concatenate([random_ledger(), other])


@given(
    name=st.sampled_from(ALL_COUNTS),
    n=st.integers(0, 2),
    row=st.integers(0, 2),
    t=st.integers(0, 2),
)
@settings(deadline=None)
def test_the_first_difference_is_found_and_named(name: str, n: int, row: int, t: int) -> None:
    ledger, other = random_ledger(), random_ledger()
    assert ledger.first_difference(other) is None
    assert ledger.differences(other) == 0
    getattr(other, name)[n, row, t] += 1
    other.axon_out[2, 2, 3] += 1  # the last timestep of the last sample
    node = NODES[int(ledger.node_of(name)[row])]
    assert ledger.first_difference(other) == (name, node, n, t + 1)
    assert ledger.differences(other) == 2


def test_ledgers_of_different_shapes_differ() -> None:
    found = random_ledger(2).first_difference(random_ledger(3))
    assert found is not None
    assert found[1] == "(shapes differ)"


def test_a_real_ledger_survives_a_file(tmp_path: Path) -> None:
    net, spikes, _ = load_join_net()
    _, _, ledger = run_plain(net, spikes)
    path = tmp_path / "run.ledger.json"
    write_ledger(ledger, path)
    assert same(read_ledger(path), ledger)
    assert [p.name for p in tmp_path.iterdir()] == ["run.ledger.json"]
    write_ledger(random_ledger(), str(path))
    assert same(read_ledger(str(path)), random_ledger())


def changed(**changes: Any) -> str:
    return json.dumps(json.loads(random_ledger(1, 2).to_json()) | changes)


def without(key: str) -> str:
    raw = json.loads(random_ledger(1, 2).to_json())
    del raw[key]
    return json.dumps(raw)


SYN_OPS = [[[1, 2]] * 4]

HOSTILE = [
    ("", "not a ledger"),
    ("{", "not a ledger"),
    ("null", "no JSON object"),
    ("[1]", "no JSON object"),
    ("[" * 100_000, "not a ledger"),
    ('{"format": "other", "version": 1}', "format 'other'"),
    (changed(version=2), "version 2, expected 'neucodex-ledger' version 1"),
    *((without(key), f"'{key}' is missing") for key in (*ALL_COUNTS, "nodes", "relay", "samples")),
    (changed(nodes="stem"), "nodes must be a list"),
    (changed(nodes=["stem", "stem", "readout"]), "a name twice"),
    (changed(nodes=["stem", 7, "readout"]), "nodes must be a list of names"),
    (changed(connections=[["stem"]]), r"must be \[node, source\]"),
    (changed(connections=[["ghost", "input"]]), "leads to 'ghost'"),
    (changed(connections={}), "must be a list"),
    (changed(samples=2), "expected \\(2, 4, 2\\)"),
    (changed(samples=-1), "samples is -1"),
    (changed(samples=True), "samples is True"),
    (changed(samples=10**9), "expected an integer in"),
    (changed(samples=10**6, timesteps=10**6), "more than 10000000 rows"),
    (changed(timesteps="2"), "timesteps is '2'"),
    (changed(syn_ops=[[[1, 2]] * 3]), r"shape \(1, 3, 2\), expected \(1, 4, 2\)"),
    (changed(syn_ops=[[[1, 2], [1]]]), "is not an array"),
    (changed(syn_ops=[]), "shape"),
    (changed(syn_ops={}), "shape"),
    (changed(syn_ops=[[[1, 2.5]] * 4]), "holds float64"),
    (changed(syn_ops=[[[1, "2"]] * 4]), "integers"),
    (changed(syn_ops=[[[1, None]] * 4]), "integers"),
    (changed(syn_ops=[[[True, False]] * 4]), "holds bool"),
    (changed(syn_ops=[[[1, -2]] * 4]), "outside"),
    (changed(syn_ops=[[[1, 2**60]] * 4]), "outside"),
    (changed(syn_ops=[[[1, 2**63]] * 4]), "expected integers"),
    (changed(syn_ops=[[[1, 2**90]] * 4]), "expected integers"),
    (changed(relay={"syn_ops": 1}), "'relay' must hold"),
    (changed(relay=[]), "'relay' must hold"),
    (changed(outside_window=vars(Overhead()) | {"macs": "x"}), "outside_window.macs is 'x'"),
    (changed(outside_window=vars(Overhead()) | {"macs": -1}), "outside_window.macs is -1"),
    (changed(outside_window=vars(Overhead()) | {"macs": 0.5}), "outside_window.macs is 0.5"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_ledgers_are_refused_with_one_clear_line(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=message):
        Ledger.from_json(text)
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=message) as caught:
        read_ledger(path)
    assert "bad.json" in caught.value.message
    assert "simulate" in caught.value.hint
    assert "\n" not in str(caught.value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
       st.sampled_from(list(json.loads(random_ledger(1, 2).to_json()))))  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_whatever_stands_in_a_field_it_is_read_or_refused(value: Any, key: str) -> None:
    text = changed(**{key: value})
    try:
        ledger = Ledger.from_json(text)
    except FormatError:
        return
    assert same(ledger, Ledger.from_json(ledger.to_json()))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"nowhere.json': No such file"):
        read_ledger(tmp_path / "nowhere.json")
    with pytest.raises(FormatError, match="Is a directory"):
        read_ledger(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="not text"):
        read_ledger(tmp_path / "binary")
    write_ledger(random_ledger(), tmp_path / "large")
    size = (tmp_path / "large").stat().st_size
    assert read_ledger(tmp_path / "large", max_bytes=size).samples == 3
    with pytest.raises(FormatError, match="larger than"):
        read_ledger(tmp_path / "large", max_bytes=size - 1)
