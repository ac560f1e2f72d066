import dataclasses
import json

import pytest

from neucodex_lava.errors import FormatError
from neucodex_lava.report import results as module
from neucodex_lava.report.results import LayerRow, Results, Row


def example_results() -> Results:
    """Invented figures; every optional part appears in one row and is absent in the other."""
    layer = LayerRow("stem", "edge", 800.0, 790.5, 0.0, 256.0, 50.0, 40.0, 0.15625)
    edge = Row(
        None, "edge-only", 360, 0.98, (0.96, 0.99), 4.0, 0.0, 0.0, 0.0, 0.0, 1e6, 0.0, 2.3e-5,
        2e-5, None, None, None, [0, 0, 0, 360],
    )  # fmt: skip
    split = Row(
        "SP1", "D+B", 360, 0.97, (0.95, 0.98), 1.5, 3072.0, 96.0, 96.0, 220.5, 4e5, 0.0, 9.2e-6,
        8e-6, 0.012, 0.021, 0.003, [200, 150, 0, 10], (4, 4, 4), 100,
        {"energy vs edge-only": 2.5}, [layer],
    )  # fmt: skip
    return Results(
        "digits", "resnet-small", "deterministic", 0, 4, "confidence", 0.9, "fused", "gated",
        "23 pJ", [edge, split], {"neucodex-lava": "0.1.0"}, "neucodex demo", "/somewhere/report.html",
    )  # fmt: skip


def test_json_round_trip_is_equal():
    results = example_results()
    assert Results.from_json(results.to_json()) == results
    assert Results.from_dict(results.to_dict()) == results


def test_keys_of_newer_versions_are_ignored():
    raw = example_results().to_dict() | {"tomorrow": [1, 2]}
    raw["rows"][0]["also"] = None
    assert Results.from_dict(raw) == example_results()


def test_a_factor_against_zero_is_left_out_of_json():
    results = example_results()
    row = dataclasses.replace(results.rows[0], reductions={"energy": float("inf"), "payload": 2.0})
    raw = json.loads(dataclasses.replace(results, rows=[row]).to_json())
    assert raw["rows"][0]["reductions"] == {"payload": 2.0}


def test_another_figure_that_is_not_finite_is_refused_when_written():
    results = example_results()
    row = dataclasses.replace(results.rows[0], energy_j=float("nan"))
    with pytest.raises(FormatError, match="not a finite number"):
        dataclasses.replace(results, rows=[row]).to_json()


HOSTILE_FIELDS = [
    ("accuracy", 1.5, "no share in order"),
    ("accuracy", "0.9", "expected a number, found text"),
    ("accuracy", None, "expected a number, found nothing"),
    ("accuracy", True, "expected a number, found true or false"),
    ("accuracy", float("nan"), "outside"),
    ("accuracy_interval", [0.9], "expected 2 values, found 1"),
    ("accuracy_interval", [0.99, 0.5], "no share in order"),
    ("energy_j", float("inf"), "outside"),
    ("energy_j", 10**400, "outside"),
    ("energy_j", 5e-324, "below 1e-30"),
    ("energy_j", -1.0, r"rows\[0\].energy_j: a negative number"),
    ("samples", 2.5, "expected a whole number"),
    ("samples", -1, "negative"),
    ("split", "SP0", "expected SP1"),
    ("split", "<script>", "expected SP1"),
    ("split", {}, "expected text, found an object"),
    ("configuration", "a" * 5000, "5000 characters"),
    ("configuration", "\x1b[2J", "control characters"),
    ("configuration", "\ud800", "control characters"),
    ("exit_histogram", [1] * 5, "5 entries, t_max is 4"),
    ("exit_histogram", [0] * 5000, "5000 entries, at most 4096"),
    ("exit_histogram", [1, -1], r"exit_histogram\[1\]: a negative"),
    ("exit_histogram", 3, "expected a list"),
    ("code_shape", [1, 2], "expected 3 values, found 2"),
    ("reductions", [], "expected an object"),
    ("reductions", {"x": "y"}, "expected a number"),
    ("layers", [[]], "expected an object, found a list"),
    ("layers", [{}], r"layers\[0\].name: is missing"),
]


@pytest.mark.parametrize(("key", "value", "message"), HOSTILE_FIELDS)
def test_a_bad_field_of_a_row_is_named(key, value, message):
    raw = example_results().to_dict()
    raw["rows"][0][key] = value
    with pytest.raises(FormatError, match=message):
        Results.from_dict(raw)


@pytest.mark.parametrize("key", [f.name for f in dataclasses.fields(module.Row)][:18])
def test_a_missing_field_of_a_row_is_named(key):
    raw = example_results().to_dict()
    del raw["rows"][1][key]
    with pytest.raises(FormatError, match=rf"rows\[1\].{key}: is missing"):
        Results.from_dict(raw)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"x"', "{}", b"\xff\xfe\x00", "[" * 100_000, "1" * 10_000, "NaN"],
)
def test_what_is_no_results_file_gives_one_clear_line(text):
    with pytest.raises(FormatError) as caught:
        Results.from_json(text)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.hint == "pass a results.json written by evaluate, sweep or demo"


@pytest.mark.parametrize(
    ("key", "value"), [("t_max", 0), ("t_max", 257), ("rows", {}), ("seed", "")]
)
def test_a_bad_top_level_field_is_named(key, value):
    raw = example_results().to_dict() | {key: value}
    with pytest.raises(FormatError, match=key):
        Results.from_dict(raw)


def test_too_many_rows_are_refused():
    raw = example_results().to_dict()
    raw["rows"] = raw["rows"][:1] * 1001
    with pytest.raises(FormatError, match="1001 rows, at most 1000"):
        Results.from_dict(raw)


def test_wilson_bounds_that_miss_by_a_rounding_error_are_read():
    raw = example_results().to_dict()
    raw["rows"][0] |= {"accuracy": 1.0, "accuracy_interval": [0.98, 1 - 1e-12]}
    raw["rows"][1] |= {"accuracy": 0.0, "accuracy_interval": [-1e-17, 0.02]}
    assert Results.from_dict(raw).rows[1].accuracy_interval == (-1e-17, 0.02)


def test_a_firing_rate_above_one_is_refused():
    raw = example_results().to_dict()
    row = next(r for r in raw["rows"] if r["layers"])
    row["layers"][0]["firing_rate"] = 1.2
    with pytest.raises(FormatError, match=r"firing rate 1.2 is outside \[0, 1\]"):
        Results.from_dict(raw)


def test_a_file_is_read_and_an_oversized_or_missing_one_refused(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    with pytest.raises(FormatError, match="No such file"):
        Results.read(path)
    path.write_text(example_results().to_json())
    assert Results.read(path) == example_results()
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 2**20)
    path.write_text(" " * (2**20 + 1))
    with pytest.raises(FormatError, match="larger than 1 MiB"):
        Results.read(path)
    with pytest.raises(FormatError, match="Is a directory"):
        Results.read(tmp_path)
