"""--link PRESET, and numbers of one's own in its place."""

import pytest

from neucodex_lava.cli.main import parse, run
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.place.placement import LinkPrices


def costs(*args: str) -> LinkPrices:
    return parse(["infer", "BUNDLE", *args]).costs()


def test_the_papers_link_is_the_default() -> None:
    assert costs() == costs("--link", "paper")
    assert costs().link.message_s == LinkPrices().link.message_s == 0.01
    assert costs().link.bit_s == pytest.approx(LinkPrices().link.bit_s)
    assert (costs().link.message_j, costs().link.bit_j) == (0, 0)


def test_a_preset_gives_all_four_numbers() -> None:
    lora = costs("--link", "lora").link
    assert lora.message_s == 1.0
    assert lora.bit_s == pytest.approx(1 / 5470)
    assert (lora.message_j, lora.bit_j) == (4.3e-3, 25.1e-6)


def test_numbers_of_ones_own_go_before_the_presets() -> None:
    own = costs("--link", "lora", "--link-ms", "20", "--link-mbit-s", "2", "--link-mj", "0.5").link
    assert (own.message_s, own.message_j, own.bit_j) == (0.02, 0.5e-3, 25.1e-6)
    assert own.bit_s == pytest.approx(0.5e-6)
    assert costs("--link-nj-bit", "7").link.bit_j == pytest.approx(7e-9)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--link", "pigeon"], "unknown link 'pigeon'"),
        (["--link-mbit-s", "0"], "--link-mbit-s 0.0 is not above 0"),
        (["--link-ms", "-1"], "--link-ms -1.0 is below 0"),
    ],
)
def test_what_is_no_link_is_said_in_one_line(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["infer", "netx_exports/resnet-small-digits/sp1", *args]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "rate_bps"),
    [
        ([], None),
        (["--link", "lora"], 5470),
        (["--link-mbit-s", "2"], 2e6),
        (["--link", "paper"], 18.9e6),
    ],
)
def test_codec_auto_weighs_the_link_that_was_given(
    options: list[str], rate_bps: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def infer(*_: object, use: object, **__: object) -> None:
        used.append(use)
        raise ConfigError("enough")

    monkeypatch.setattr("neucodex_lava.evaluation.infer.infer", infer)
    assert run(["infer", "BUNDLE", "--codec", "auto", *options]) == 2
    assert used[0].link_rate_bps == (
        None if rate_bps is None else pytest.approx(rate_bps, rel=1e-3)
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--link", "lora"], "--link and --link-mbit-s describe the link to"),
        (["--link-mbit-s", "2"], "--link and --link-mbit-s describe the link to"),
        (["--codec", "auto", "--link-ms", "9"], "only --policy place weighs --link-ms"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["infer", "BUNDLE", *options]) == 2
    assert told in capsys.readouterr().err
