"""`verify` on a lone NetX file: all backends against the executor, stock Lava as the witness."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import NEURON, conv, dense, even, write_foreign
from plain import delayed_net, load_join_net, random_net

from neucodex_lava.cli.main import run
from neucodex_lava.edge.netx import read_netx, write_netx
from neucodex_lava.errors import ConfigError
from neucodex_lava.verify import on_file as module
from neucodex_lava.verify.on_file import verify_net

pytest.importorskip("lava.lib.dl.netx")

RNG = np.random.default_rng(8)
W = even(RNG, 6, 6)
LAYERS: list[dict[str, Any]] = [
    {"type": "input", "shape": (2, 5, 4), "neuron": NEURON | {"vThMant": 900}},
    conv(even(RNG, 3, 2, 3, 3), (3, 5, 4), padding=(1, 1)),
    {"type": "flatten", "shape": (60, 1, 1)},
    dense(even(RNG, 6, 60, low=-40), delay=np.arange(6)),
]
ALL = [
    ("fused", "gated"),
    ("fused", "pipelined"),
    ("reference", "pipelined"),
    ("netx", "pipelined"),
]


def ran(report: Any) -> list[tuple[str, str | None]]:
    return [(c.backend, c.schedule) for c in report.checks]


@pytest.mark.lava
def test_a_file_of_lava_dl_runs_everywhere(tmp_path: Path, capsys: Any) -> None:
    path = write_foreign(tmp_path / "f.net", *LAYERS)
    status = run(
        ["verify", str(path), "--timesteps", "6", "--input-bits", "5", "--samples", "2", "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert status == 0
    assert found["target"] == str(path)
    assert found["backends"] == ["twin", "fused", "reference", "netx"]
    assert [(c["backend"], c["schedule"]) for c in found["checks"]] == ALL
    assert (found["samples"], found["timesteps"], found["layers"]) == (2, 6, 3)
    assert found["spike_differences"] == found["counter_differences"] == 0
    assert found["first_difference"] is None
    assert found["skipped"] == {}
    sizes = [c["spikes_compared"] for c in found["checks"]]
    assert sizes == [2 * 6 * (40 + 60 + 6)] * 3 + [2 * 6 * 6]


@pytest.mark.lava
@pytest.mark.parametrize(
    ("net", "why"),
    [
        (load_join_net(5)[0], "it is no chain of layers"),
        (delayed_net()[0], "it is no chain of layers"),
        (random_net(1)[0].with_cut(1), "its input is graded"),
    ],
)
def test_files_of_ours_need_no_flags(net: Any, why: str, tmp_path: Path) -> None:
    path = tmp_path / "own.net"
    write_netx(net, path)
    report = verify_net(path, samples=2)
    assert report.exact
    assert why in report.skipped["netx"]
    assert ran(report) == ALL[:3]
    assert report.timesteps == net.timesteps


@pytest.mark.lava
def test_a_difference_is_named_and_ends_in_1(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stock Lava runs a file in which one weight was changed after we had read it."""
    path = write_foreign(tmp_path / "f.net", dense(W))
    other = W.copy()
    other[2, 3] -= 60
    changed = write_foreign(tmp_path / "changed.net", dense(other))
    net = read_netx(path, timesteps=5)

    def load(*_: Any, **__: Any) -> Any:
        shutil.copy(changed, path)
        return net

    monkeypatch.setattr(module, "load_net_target", load)
    arguments = ["verify", str(path), "--backends", "netx", "--rate", "0.5", "--json"]
    assert run(arguments) == 1
    found = json.loads(capsys.readouterr().out)
    first = found["first_difference"]
    assert (first["backend"], first["layer"], first["neuron"]) == ("netx", "dense0", [2, 0, 0])
    assert first["quantity"] == "spike"
    assert {first["found"], first["expected"]} == {0, 1}
    assert found["spike_differences"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "does not say how many timesteps it runs: pass timesteps (--timesteps T)"),
        (["--timesteps", "0"], "0 timesteps asked for"),
        (["--timesteps", "4", "--rate", "2"], "a firing rate of 2.0 is outside [0, 1]"),
        (["--timesteps", "4", "--run", "x"], "--run is for a bundle"),
        (["--timesteps", "4", "--backends", "slayer"], "'slayer' cannot verify a lone file"),
        (["--timesteps", "4", "--input-shape", "1", "2", "3"], "the file's input is (2, 5, 4)"),
    ],
)
def test_what_is_wrong_is_one_line_and_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: Any
) -> None:
    path = write_foreign(tmp_path / "f.net", *LAYERS)
    assert run(["verify", str(path), *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_flags_of_a_file_do_not_fit_a_bundle(tmp_path: Path, capsys: Any) -> None:
    assert run(["verify", str(tmp_path), "--input-bits", "3"]) == 2
    assert "--input-bits is for a lone NetX file" in capsys.readouterr().err


def test_a_witness_that_would_wrap_is_not_asked(tmp_path: Path) -> None:
    """Stock Lava keeps the bias that is an input block's value in 16 bits."""
    path = write_foreign(tmp_path / "f.net", LAYERS[0] | {"weight": 254}, *LAYERS[1:])
    with pytest.raises(ConfigError, match="reaches 64770, Lava keeps a bias in 16 bits"):
        verify_net(path, timesteps=3, backends=("netx",))
