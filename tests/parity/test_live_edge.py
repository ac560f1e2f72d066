"""`infer` with a real bundle, Lava and a socket: deadlines, running ahead, samples in flight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cascades import exit_bundle, small_cascade

from host_bridge import serving
from host_bridge.client import Source
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.infer import infer
from neucodex_lava.evaluation.live import LiveOptions, run_live
from neucodex_lava.evaluation.measured import LinkUse, connect
from neucodex_lava.evaluation.place.placement import sites
from neucodex_lava.evaluation.policies import make_policy
from neucodex_lava.evaluation.serve import open_tail

pytestmark = [pytest.mark.lava, pytest.mark.timeout(150)]

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"


@pytest.mark.parametrize(("bundle", "split"), [("sp1", None), ("base", "input")])
def test_ways_to_hide_the_round_trip_change_no_answer(bundle: str, split: str | None) -> None:
    folder = RELEASED / bundle
    with serving(open_tail(folder, split=split)) as address:
        gated = infer(folder, address, split=split, samples=10)
        ahead = infer(folder, address, split=split, samples=10, live=LiveOptions(speculate=True))
        others = [ahead]
        if split == "input":
            others.append(infer(folder, address, split=split, samples=10, in_flight=4))
    for found in others:
        for name in ("index", "label", "prediction", "timesteps", "source"):
            mine = [getattr(s, name) for s in found.samples]
            assert mine == [getattr(s, name) for s in gated.samples], name
    stopped = [s.timesteps < gated.t_max for s in gated.samples]
    assert any(stopped)
    step_bits = gated.samples[0].payload_bits // gated.samples[0].timesteps
    for one, late, early in zip(gated.samples, ahead.samples, stopped):
        assert late.extra_bits == (step_bits if early else 0)
        assert late.payload_bits == one.payload_bits + late.extra_bits
        assert late.syn_ops == one.syn_ops + late.extra_syn_ops
        assert (late.extra_syn_ops > 0) == (early and split is None)
    assert ahead.to_dict()["sources"] == {"cloud": 10}


def test_without_the_cloud_the_exit_head_answers_with_all_the_time_there_is(
    tmp_path: Path,
) -> None:
    bundle = exit_bundle(tmp_path / "base")
    site = next(site for site in sites(bundle) if site.split == "SP2")
    inputs = small_cascade(0, 4)[1]
    whole = run_twin(Executor(site.net), inputs)
    local, cloud = site.sums(whole)
    policy = make_policy(bundle, "fixed")
    calls: list[int] = []

    class Breaks(TorchTail):
        """Fails from the second sample's second timestep on."""

        def step_batch(self, states: Any, codes: Any) -> Any:
            calls.extend([1] * len(states))
            if len(calls) > site.net.timesteps + 1:
                raise RuntimeError("broken")
            return super().step_batch(states, codes)

        def step(self, state: Any, code: Any, /) -> Any:
            states, sums = self.step_batch([state], code[None])
            return states[0], sums[0]

    broken = Breaks(site.net, site.configuration.model_id, bundle.readout_gain)
    with EdgeSession(site.net, keep_ledger=True) as session, serving(broken) as address:
        client = connect(site.configuration, address, LinkUse(patience_s=float("inf")))
        found = run_live(inputs, policy, session, client, LiveOptions(deadline_s=20.0))
        client.close()
    sources = [s.verdict.source for s in found.samples]
    assert sources == [Source.CLOUD, Source.EARLIER, Source.LOCAL, Source.LOCAL]
    last = site.net.timesteps
    assert [s.timesteps for s in found.samples] == [last, 1, last, last]
    for n, (sums, t) in enumerate([(cloud, last), (cloud, 1), (local, last), (local, last)]):
        verdict = found.samples[n].verdict
        assert verdict.sums is not None
        assert verdict.sums.tolist() == sums[n, :, t - 1].tolist()
    assert (found.link_lost, found.failed) == (None, 3)
    assert "the tail failed at sample 1, timestep" in found.problem


def test_what_does_not_go_together_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import neucodex_lava.evaluation.infer as module

    def started(*_: object, **__: object) -> None:
        raise AssertionError("Lava was started")

    monkeypatch.setattr(module, "EdgeSession", started)
    here = "127.0.0.1:1"
    with pytest.raises(ConfigError, match="one edge computes one sample at a time"):
        infer(RELEASED / "sp1", here, in_flight=2)
    with pytest.raises(ConfigError, match="a pipelined edge runs on by the clock"):
        infer(RELEASED / "sp1", here, schedule="pipelined", live=LiveOptions(1.0))
    with pytest.raises(ConfigError, match="policy place waits for the cloud"):
        infer(RELEASED / "sp1", here, policy="place", live=LiveOptions(1.0))
    site = sites(exit_bundle(tmp_path / "base"))[0]
    with pytest.raises(ConfigError, match="needs coding tables"):
        connect(site.configuration, here, LinkUse(codec="ans"))
