"""What the terminal shows, and how numbers are written."""

import dataclasses
import io

import pytest
from rich.console import Console

from neucodex_lava.report.results import LayerRow, Results, Row
from neucodex_lava.report.si import change, count, si, times
from neucodex_lava.report.summary import best_row, summary
from neucodex_lava.report.tables import energy_table, ledger_table, results_table

EDGE = Row(
    None, "edge-only", 360, 0.98, (0.96, 0.99), 4.0, 0.0, 0.0, 0.0, 0.0, 1e6, 0.0, 2.3e-5, 2e-5,
    0.0305, None, None, [0, 0, 0, 360],
)  # fmt: skip
PLAIN = Row(
    "SP1", "F-B", 360, 0.98, (0.96, 0.99), 4.0, 131072.0, 4096.0, 4096.0, 900.0, 4e5, 0.0, 9.2e-6,
    8e-6, 0.012, 0.021, 0.003, [0, 0, 0, 360], (16, 8, 8), 100,
)  # fmt: skip
SPLIT = Row(
    "SP1", "D+B", 360, 0.97, (0.95, 0.98), 1.5, 3072.0, 96.0, 96.0, 220.5, 2e5, 0.0, 4.6e-6,
    4e-6, 0.006, 0.011, 0.002, [200, 150, 0, 10], (4, 4, 4), 100,
)  # fmt: skip
RESULTS = Results(
    "digits", "resnet-small", "deterministic", 0, 4, "confidence", 0.9, "fused", "gated", "23 pJ",
    [EDGE, PLAIN, SPLIT],
)  # fmt: skip


def printed(renderable, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(renderable)
    return console.file.getvalue()


def with_rows(*rows: Row) -> Results:
    return dataclasses.replace(RESULTS, rows=list(rows))


def test_the_results_table_at_100_columns():
    lines = [" ".join(line.split()) for line in printed(results_table(RESULTS), 100).splitlines()]
    assert lines[0] == "Accuracy and edge energy, per sample"
    assert lines[1] == "accuracy, % edge edge vs paper's"
    assert lines[2] == "(95 % interval) timesteps SynOps energy edge-only formula"
    assert lines[3] == "measured measured simulated modelled modelled modelled"
    assert lines[5:8] == ["no cut", "edge-only 98.0 (96.0–99.0) 4.00 1.00 M 23.0 µJ – 20.0 µJ", ""]
    assert lines[8:11] == [
        "SP1",
        "F-B 98.0 (96.0–99.0) 4.00 400,000 9.20 µJ −60.0 % 8.00 µJ",
        "D+B 97.0 (95.0–98.0) 1.50 200,000 4.60 µJ −80.0 % 4.00 µJ",
    ]
    assert "edge-only – – – – – 30.5 ms – –" in lines
    assert "F-B 16×8×8 131,072 4,096 4,096 900 12.0 ms 21.0 ms 3.00 ms" in lines
    assert "D+B 4×4×4 3,072 96 96 220 6.00 ms 11.0 ms 2.00 ms" in lines
    assert lines[-3].startswith("measured answers on real samples")
    assert lines[-2].startswith("simulated counted in a simulation")
    assert lines[-1].startswith("modelled worked out from counts")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_figure_is_lost_or_folded_at_any_width(width):
    text = printed(results_table(RESULTS), width)
    assert all(len(line) <= width for line in text.splitlines())
    for figure in ("98.0 (96.0–99.0)", "9.20 µJ", "−60.0 %", "131,072", "16×8×8", "3.00 ms"):
        assert figure in text
    assert "…" not in text


def test_columns_without_a_figure_are_left_out_and_macs_come_only_with_graded_input():
    text = printed(results_table(with_rows(EDGE)), 100)
    assert "MACs" not in text
    assert "round" not in text
    graded = printed(results_table(with_rows(dataclasses.replace(EDGE, macs=12345.0))), 100)
    assert "MACs" in graded
    assert "12,345" in graded


def test_a_pipeline_has_a_table_and_says_where_an_early_exit_saves_the_edge_nothing():
    plain = printed(results_table(RESULTS), 100)
    assert "Pipeline" not in plain
    pipelined = {"outside_energy_j": 1.5e-6, "edge_timesteps": 3.5}
    rows = with_rows(
        dataclasses.replace(EDGE, edge_depth=9, **pipelined),
        dataclasses.replace(SPLIT, edge_depth=3, **pipelined),
        dataclasses.replace(SPLIT, split="SP2", edge_depth=2, **pipelined),
        dataclasses.replace(SPLIT, split=None, configuration="cloud-only", energy_j=0.0),
    )
    text = " ".join(printed(results_table(rows), 100).split())
    assert "edge-only 9 3.50 1.50 µJ" in text
    assert "cloud-only – – –" in text
    # Only what a decision by t = 1 could still save counts: T = 4 is 1 + depth 3, not 1 + depth 2.
    vain = "With T = 4 an early exit saves link and cloud but no edge energy at: SP1 D+B (depth 3)."
    assert vain in text


def test_several_exit_policies_have_a_row_each_and_are_compared_with_the_oracle():
    def of(row: Row, policy: str, accuracy: float, timesteps: float, **more) -> Row:
        changes = {"accuracy": accuracy, "mean_timesteps": timesteps, "policy": policy, "oct": 1.25}
        return dataclasses.replace(row, ece=0.0234, **changes, **more)

    fixed = dataclasses.replace(SPLIT, configuration="F+B", accuracy=0.975, policy="fixed")
    alone = dataclasses.replace(EDGE, configuration="edge-only dynamic")
    rows = [
        dataclasses.replace(EDGE, policy="fixed"),
        of(alone, "confidence", 0.96, 2.0, energy_j=1e-5),
        of(alone, "topk", 0.97, 3.0, energy_j=5e-6),
        fixed,
        of(SPLIT, "confidence", 0.965, 1.5, not_numbers=7),
        of(SPLIT, "topk", 0.97, 1.75),
        of(SPLIT, "oracle", 0.975, 1.25, energy_j=1e-9),
    ]
    results = dataclasses.replace(
        with_rows(*rows), left_out=180, calibrations={"topk": "180 samples", "other": "180 samples"}
    )
    lines = [" ".join(line.split()) for line in printed(results_table(results), 100).splitlines()]
    at = lines.index("Exits, per sample")
    assert lines[at + 5 : at + 13] == [
        "no cut",
        "edge-only dynamic confidence 2.00 2.00 1.25 +0.75 2.34 % –",
        "edge-only dynamic topk 1.00 3.00 1.25 +1.75 2.34 % –",
        "",
        "SP1",
        "D+B confidence 1.00 1.50 1.25 +0.25 2.34 % 7",
        "D+B topk 0.50 1.75 1.25 +0.50 2.34 % –",
        "D+B oracle 0.00 1.25 1.25 +0.00 2.34 % –",
    ]
    said = " ".join(lines)
    assert "180 test samples on which an exit policy was calibrated are left out" in said
    assert "Calibrated exit policies: topk, other on 180 samples." in said
    assert "Timesteps whose logits held NaN, on which no policy stops: D+B confidence: 7." in said
    assert "The oracle stops each sample as soon as its answer is right" in said
    # Against the dynamic edge-only row of the same policy: 4.6 of 10, and of 5 microjoules.
    assert any("D+B confidence" in line and "−54.0 %" in line for line in lines)
    assert any("D+B topk" in line and "−8.0 %" in line for line in lines)
    best = best_row(results)
    assert best is not None
    assert best.policy == "confidence"
    said = summary(results)
    assert "dynamic timesteps by the exit policy confidence, the first asked for, and" in said
    assert "Of this policy's D+B rows at most two points less" in said


def test_the_best_row_is_of_the_first_policy_asked_for_and_not_chosen_on_test_samples():
    first = dataclasses.replace(SPLIT, policy="confidence")
    lucky = dataclasses.replace(SPLIT, policy="topk", energy_j=1e-9, accuracy=0.98)
    known = dataclasses.replace(SPLIT, policy="oracle", energy_j=1e-9)
    assert best_row(with_rows(EDGE, known, first, lucky)) is first
    assert best_row(with_rows(EDGE, lucky, first, known)) is lucky
    bad = dataclasses.replace(first, accuracy=0.5)
    assert best_row(with_rows(EDGE, bad, lucky)) is bad
    assert best_row(with_rows(bad, lucky)) is bad
    assert best_row(with_rows(EDGE, known)) is None


def test_names_are_text_and_not_markup():
    text = printed(
        results_table(with_rows(dataclasses.replace(SPLIT, configuration="[b]D[/b]"))), 99
    )
    assert "[b]D[/b]" in text
    layer = LayerRow("[red]stem", "edge", 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.5)
    assert "[red]stem" in printed(ledger_table([layer]), 99)


def test_the_ledger_table_adds_up_edge_and_cloud_apart():
    layers = [
        LayerRow("stem", "edge", 1000.0, 900.0, 0.0, 64.0, 10.0, 8.0, 0.125),
        LayerRow("encoder", "edge", 500.5, 500.0, 0.0, 16.0, 8.0, 2.5, 0.15625),
        LayerRow("decoder", "cloud", 70.0, 70.0, 0.0, 64.0, 2.5, 4.0, 0.0625),
    ]
    lines = [" ".join(line.split()) for line in printed(ledger_table(layers), 100).splitlines()]
    assert lines[0] == "Counts, means per sample (simulated)"
    assert "stem 1,000 900 0 64 10 8 12.5 %" in lines
    assert "edge total 1,500 1,400 0 80 18 10.5" in lines
    assert "decoder 70 70 0 64 2.50 4 6.2 %" in lines
    assert "cloud total 70 70 0 64 2.50 4" in lines


def test_the_energy_table_sums_each_model_and_dashes_what_one_does_not_price():
    text = printed(energy_table({"A": {"SynOps": 1e-5}, "B": {"SynOps": 2e-6, "static": 1e-6}}), 80)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "part modelled modelled" in lines
    assert "SynOps 10.0 µJ 2.00 µJ" in lines
    assert "static – 1.00 µJ" in lines
    assert "total 10.0 µJ 3.00 µJ" in lines


def test_the_best_row_needs_least_energy_within_two_points_of_edge_only():
    cheap = dataclasses.replace(SPLIT, split="SP2", energy_j=1e-6, accuracy=0.959)
    dear = dataclasses.replace(SPLIT, split="SP3", energy_j=9e-6, accuracy=0.975)
    edge_case = dataclasses.replace(SPLIT, split="SP4", energy_j=2e-6, accuracy=0.96)
    assert best_row(with_rows(EDGE, SPLIT, cheap, dear)) is SPLIT
    assert best_row(with_rows(EDGE, SPLIT, edge_case)) is edge_case
    assert best_row(with_rows(EDGE, cheap)) is cheap
    assert best_row(with_rows(SPLIT, cheap, dear)) is dear
    assert best_row(with_rows(EDGE)) is None
    assert "No cut is within two points" in summary(with_rows(EDGE, cheap))


def test_the_summary_says_accuracy_energy_and_payload():
    assert summary(RESULTS) == (
        "Cut at SP1, with dynamic timesteps and the bottleneck (D+B), the network answers 97.0 % of"
        " 360 samples correctly (95 % interval 95.0–98.0 %; the whole network on the edge: 98.0 %),"
        " after 1.50 of 4 timesteps on average. Its edge part takes 4.60 µJ per sample by the"
        " energy model, 80 % less than edge-only. It sends 96 bits per sample; all timesteps"
        " without the bottleneck (F-B) would take 42.7 times as many bit-packed, 1,365 times as"
        " many as 32-bit floats. Of the D+B rows at most two points less accurate than edge-only, it"
        " needs least energy."
    )
    dear = dataclasses.replace(SPLIT, energy_j=4.6e-5)
    assert "100 % more than edge-only" in summary(with_rows(EDGE, dear))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 J"), (2.3e-11, "23.0 pJ"), (9.996e-7, "1.00 µJ"), (9.994e-7, "999 nJ"),
        (1.0, "1.00 J"), (12345.0, "12.3 kJ"), (999.6, "1.00 kJ"), (-2e-3, "-2.00 mJ"),
        (1e-30, "1.00e-30 J"), (1e-18, "1.00 aJ"), (1e18, "1.00 EJ"), (1e21, "1000 EJ"), (None, "–"),
        (float("nan"), "–"), (float("inf"), "–"),
    ],
)  # fmt: skip
def test_si(value, text):
    assert si(value, "J") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (2.5, "2.50"), (27.2, "27.2"), (108.8, "109"), (131072, "131,072"),
     (999_999.4, "999,999"), (999_999.6, "1.00 M"), (1.24e6, "1.24 M"), (None, "–")],
)  # fmt: skip
def test_count(value, text):
    assert count(value) == text


def test_changes_and_factors():
    assert [change(f) for f in (0.36, 1.0, 1.031, 12.0, None)] == [
        "−64.0 %", "+0.0 %", "+3.1 %", "×12", "–",
    ]  # fmt: skip
    assert [times(f) for f in (0.5, 2.789, 37.64, 1365.3)] == ["0.50", "2.79", "37.6", "1,365"]
