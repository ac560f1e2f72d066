"""Link presets: every number has a source, and means what it says."""

from __future__ import annotations

import math

import pytest

from host_bridge.links import LOOPBACK, Link, link, links
from neucodex_lava.errors import ConfigError


def test_presets_are_the_documented_ones():
    assert list(links()) == ["paper", "lora", "ble", "nb-iot", "lte-m", "wifi", "5g"]


@pytest.mark.parametrize("name", list(links()))
def test_every_number_has_a_source_and_is_plausible(name):
    preset = link(name)
    assert preset.name == name
    assert set(preset.sources) == {"up_bps", "down_bps", "delay_s", "bit_j", "message_j"}
    assert 1e3 < preset.up_bps < 1e9
    assert 0 < preset.roundtrip_s < 5
    # A published or modelled radio sends a bit for 1 nJ to 100 uJ.
    assert preset.sources["bit_j"].status == "assumed" or 1e-9 < preset.bit_j < 1e-4


def test_the_papers_link_is_its_18_9_megabits():
    paper = link("paper")
    assert paper.up_bps == 18.9e6
    assert paper.up_s(18.9e6) == pytest.approx(1)
    # 590 ms: what the paper gives for the spikes of ResNet-18 as 32-bit floats.
    assert paper.up_s(0.590 * 18.9e6) == pytest.approx(0.590)


def test_modelled_numbers_follow_from_what_their_sources_say():
    assert link("lora").bit_j == pytest.approx(0.04154 * 3.3 / 5470, rel=0.01)
    preamble_s = 12.25 * 2**7 / 125e3
    assert link("lora").message_j == pytest.approx(
        0.04154 * 3.3 * (preamble_s + 13 * 8 / 5470), rel=0.02
    )
    assert link("ble").up_bps == pytest.approx(244 * 8 / (2088 + 80 + 300) * 1e6, rel=0.01)
    assert link("ble").bit_j == pytest.approx(
        3 * (6.40e-3 * 2088e-6 + 6.26e-3 * 380e-6) / (244 * 8), rel=0.02
    )
    assert link("nb-iot").bit_j == pytest.approx(0.5 / 62e3, rel=0.01)
    assert link("lte-m").bit_j == pytest.approx(0.105 * 3.7 / 180e3, rel=0.01)
    assert link("wifi").bit_j == pytest.approx(0.180 * 3.3 / 20e6, rel=0.01)
    assert link("5g").bit_j == pytest.approx(0.5 / 19.9e6, rel=0.01)


def test_a_link_of_ones_own():
    own = Link(up_bps=1000, delay_s=0.1, jitter_s=0.05, bit_j=2e-6, message_j=1e-3)
    assert own.roundtrip_s == pytest.approx(0.25)
    assert own.up_s(500) == pytest.approx(0.5)
    assert own.up_j(500) == pytest.approx(2e-3)
    assert LOOPBACK.up_s(1e9) == 0


def test_unknown_links_and_numbers_out_of_range_are_config_errors():
    with pytest.raises(ConfigError) as caught:
        link("pigeon")
    assert "lora" in caught.value.hint
    with pytest.raises(ConfigError, match="up_bps is 0"):
        Link(up_bps=0)
    with pytest.raises(ConfigError, match="delay_s is nan"):
        Link(delay_s=math.nan)
