"""The outage benchmark: a real edge in Lava, a real server, and a link that loses exchanges."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.outage import plot, run

BUNDLE = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits" / "sp1"


@pytest.mark.lava
def test_answers_are_the_clouds_while_there_is_a_link_and_nobodys_without(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = run(BUNDLE, samples=6, deadline_s=1.0, losses=(0.0, 0.5, 1.0))
    clear, half, nothing = report["rows"]
    assert clear["cloud_share"] == 1
    assert clear["accuracy"] == clear["cloud_accuracy"] > 0.7
    # This bundle has no exit head before its cut: without a link nobody answers.
    assert (nothing["abstained_share"], nothing["accuracy"]) == (1, 0)
    assert 0 < half["cloud_share"] < 1
    shares = [half[f"{name}_share"] for name in ("cloud", "cloud-earlier", "local", "abstained")]
    assert sum(shares) == pytest.approx(1)
    plot(report, tmp_path / "outage.svg")
    assert (tmp_path / "outage.svg").read_text().startswith("<?xml")
