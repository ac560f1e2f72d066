"""--schedule pipelined in real terminals, and an --out that cannot be written to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from neucodex_lava.bundle import load_bundle
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.evaluation.policies import make_policy
from neucodex_lava.evaluation.samples import load_indexed_samples
from neucodex_lava.exits.policy import decide

sys.path.insert(0, str(Path(__file__).parent))
from running import START_S, error_of, running, served

SAMPLES = 7


@pytest.mark.lava
def test_pipelined_inference_answers_like_the_executor_and_says_what_it_saved(
    released: Path,
) -> None:
    bundle = load_bundle(released / "sp1")
    net = bundle.net
    inputs, _, index = load_indexed_samples(bundle, SAMPLES)
    twin = run_twin(Executor(net), inputs)
    assert twin.sums is not None
    exits = decide(make_policy(bundle, "confidence", None), twin.sums)
    depth = net.depth[net.edge_nodes[-1].name]
    fed = [min(net.timesteps, int(t) + depth) for t in exits.timesteps]
    edge = twin.ledger.until(fed).select([n.name for n in net.edge_nodes])
    with served(bundle.path) as (_, ready):
        address = f"127.0.0.1:{ready['port']}"
        args = ["infer", bundle.path, "--cloud", address, "--samples", SAMPLES]
        with running(*args, "--schedule", "pipelined", "--json") as infer:
            assert infer.await_end(START_S) == 0, infer.described()
            found = json.loads(infer.out)
        with running(*args, "--schedule", "pipelined") as infer:
            assert infer.await_end(START_S) == 0, infer.described()
            table = " ".join(infer.out.split())
    assert (found["schedule"], found["edge_depth"]) == ("pipelined", depth)
    rows = found["samples"]
    assert [r["index"] for r in rows] == index.tolist()
    assert [r["prediction"] for r in rows] == exits.predictions.tolist()
    assert [r["timesteps"] for r in rows] == exits.timesteps.tolist()
    assert [r["edge_timesteps"] for r in rows] == fed
    assert [r["syn_ops"] for r in rows] == edge.per_sample("syn_ops").tolist()
    assert "edge in Lava (fused, pipelined)" in table
    assert f"the pipeline is {depth} steps deep" in table
    assert net.timesteps <= depth
    assert "with T = 4 an exit saves link and cloud but no edge energy" in table


@pytest.mark.lava
def test_a_pipelined_evaluation_says_so(released: Path, tmp_path: Path) -> None:
    args = ["evaluate", released / "sp1", "--samples", 6, "--confirm", 2, "--out", tmp_path]
    with running(*args, "--schedule", "pipelined", "--json") as evaluate:
        assert evaluate.await_end(3 * START_S) == 0, evaluate.described()
        found = json.loads(evaluate.out)
    assert found["schedule"] == "pipelined"
    rows = {r["configuration"]: r for r in found["rows"]}
    dynamic = rows["D+B"]
    assert dynamic["mean_timesteps"] < dynamic["edge_timesteps"] == found["t_max"] == 4
    assert 0 < dynamic["outside_energy_j"] < dynamic["energy_j"]
    assert rows["cloud-only"]["edge_timesteps"] is None
    page = (tmp_path / "report.html").read_text()
    deep = ", ".join(
        f"{r['split'] or ''} {r['configuration']} (depth {r['edge_depth']})".strip()
        for r in found["rows"]
        if "D" in r["configuration"] or r["configuration"].endswith("dynamic")
    )
    assert f"an early exit saves link and cloud but no edge energy at: {deep}." in page
    assert "energy outside" in page


def test_an_unwritable_folder_is_noticed_before_the_run(released: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "report"):
        with running("evaluate", released / "sp1", "--samples", 1, "--out", out) as evaluate:
            evaluate.await_end(START_S)
            said = error_of(evaluate)
            assert f"--out '{out}': '{file}' is no folder" in said
