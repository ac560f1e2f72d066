"""The page and its plots, made from one invented run of the digits."""

import dataclasses
import re
import sys
from html.parser import HTMLParser

import pytest

from neucodex_lava.errors import ConfigError, FormatError, MissingDependencyError
from neucodex_lava.report import html
from neucodex_lava.report.results import LayerRow, Results, Row

SHAPES = {"SP1": (4, 4, 4), "SP2": (4, 4, 4), "SP3": (4, 2, 2)}
FULL = {"SP1": 16 * 64, "SP2": 32 * 16, "SP3": 64 * 4}
NODES = [
    ("stem", 1024),
    ("block1.conv1", 1024),
    ("block1.conv2", 1024),
    ("block2.conv1", 512),
    ("block2.conv2", 512),
    ("block3.conv1", 256),
    ("block3.conv2", 256),
    ("readout", 10),
]
BASE_SYN_OPS = 1_240_000.0


def layers(depth: int, steps: float) -> list[LayerRow]:
    names = [*NODES[:depth], ("encoder", 64), ("decoder", 256), *NODES[depth:]]
    rows = []
    for i, (name, neurons) in enumerate(names):
        rate = 0.0 if name == "readout" else 0.19 / (1 + 0.22 * i)
        syn = neurons * steps * 60.0 / (1 + 0.35 * i)
        rows.append(
            LayerRow(
                name,
                "edge" if i <= depth else "cloud",
                syn,
                syn * 0.97,
                0.0,
                neurons * steps,
                syn / 100,
                neurons * steps * rate,
                rate,
            )
        )
    return rows


def rows_of(split: str, index: int) -> list[Row]:
    full, small = FULL[split], SHAPES[split][0] * SHAPES[split][1] * SHAPES[split][2]
    found = []
    for name, correct, steps, bits in (
        ("F-B", 354, 4.0, full),
        ("D-B", 352, 1.55, full),
        ("F+B", 352, 4.0, small),
        ("D+B", 350, 1.7, small),
    ):
        syn = BASE_SYN_OPS * (0.24 + 0.22 * index) * steps / 4
        acc = (correct - index) / 360
        hist = [0, 0, 0, 360] if name[0] == "F" else [206, 98, 34, 22]
        packed = steps * bits
        found.append(
            Row(
                split,
                name,
                360,
                acc,
                (acc - 0.017, acc + 0.009),
                steps,
                32 * packed,
                packed,
                packed,
                packed / 8 + steps * 64 + 88.5,
                syn,
                0.0,
                syn * 23e-12,
                syn * 21e-12,
                0.0031 * steps,
                0.0046 * steps,
                0.0012 * steps,
                hist,
                SHAPES[split] if name[1:] == "+B" else (full // 16, 4, 4),
                100,
                {
                    "energy vs edge-only": BASE_SYN_OPS / syn,
                    "payload vs raw F-B": 128 * full / packed,
                    "energy vs edge-only dynamic": 0.42 * BASE_SYN_OPS / syn,
                    "payload vs packed F-B": 4 * full / packed,
                },
                layers(2 * index + 1, steps),
            )
        )
    return found


def example_results() -> Results:
    edge = [
        Row(
            None,
            name,
            360,
            acc,
            (acc - 0.018, acc + 0.008),
            steps,
            0,
            0,
            0,
            0,
            BASE_SYN_OPS * steps / 4,
            0,
            BASE_SYN_OPS * steps / 4 * 23e-12,
            2.6e-5 * steps / 4,
            0.0123,
            None,
            None,
            hist,
            None,
            100,
            {},
            [],
        )
        for name, acc, steps, hist in (
            ("edge-only", 0.9889, 4.0, [0, 0, 0, 360]),
            ("edge-only dynamic", 0.9833, 1.68, [210, 90, 35, 25]),
        )
    ]
    cloud = Row(
        None,
        "cloud-only",
        360,
        0.9889,
        (0.971, 0.996),
        4.0,
        8192,
        256,
        256,
        377.0,
        0,
        0,
        0,
        0,
        None,
        0.013,
        0.009,
        [0, 0, 0, 360],
        (1, 8, 8),
        100,
        {},
        [],
    )
    split = [r for i, s in enumerate(SHAPES) for r in rows_of(s, i)]
    return Results(
        "digits",
        "resnet-small",
        "deterministic",
        7,
        4,
        "confidence",
        0.9,
        "fused",
        "gated",
        "23 pJ per SynOp",
        [*edge, cloud, *split],
        {"neucodex-lava": "0.1.0", "lava-nc": "0.10.0", "numpy": "1.26.4", "python": "3.10.14"},
        "neucodex demo --out demo-run --alpha 0.9",
    )


RESULTS = example_results()
# For what does not look at every row: a plot takes a quarter of a second.
SMALL = dataclasses.replace(RESULTS, rows=RESULTS.rows[-1:])


@pytest.fixture(scope="module")
def page() -> str:
    return html.render_html(RESULTS)


class Cells(HTMLParser):
    """Rows of all tables as lists of cell texts, and what the page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows, self.fetched, self.ids, self.scopes = [], [], [], []
        self.cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "xlink:href", "action")]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.cell = True
            self.rows[-1].append("")
            self.scopes += [given.get("scope")] if tag == "th" else []

    def handle_endtag(self, tag):
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.cell:
            self.rows[-1][-1] += data.replace("\n", " ")


def test_every_figure_of_a_row_is_on_the_page_with_its_unit(page):
    rows = Cells(page).rows
    heading = next(r for r in rows if "edge energy" in " ".join(r))
    row = next(r for r in rows if r[0] == "D+B" and len(r) > 10)
    assert row == [
        "D+B", "97.2 (95.5–98.1)", "1.70", "126,480", "2.91 µJ", "−89.8 %", "−75.7 %", "2.66 µJ",
        "4×4×4",
        "3,482", "109", "109", "211", "5.27 ms", "7.82 ms", "2.04 ms",
    ]  # fmt: skip
    assert len(heading) == len(row)
    factors = next(r for r in rows if r[0] == "D+B" and len(r) == 5)
    assert factors == ["D+B", "9.80×", "1,205×", "4.12×", "37.6×"]


def test_every_column_of_figures_is_marked(page):
    headings = [r for r in Cells(page).rows if r[0] in ("configuration", "layer")]
    for heading in headings:
        for cell in heading[1:]:
            assert cell.endswith(("measured", "simulated", "modelled")) or cell == "code C×H×W"
    marks = {cell for h in headings for cell in h}
    assert {"timestepsmeasured", "edge SynOpssimulated", "edge energymodelled"} <= marks
    assert {"edge sim. timemeasured", "raw bitsmodelled", "firing ratesimulated"} <= marks


def test_the_page_fetches_nothing_and_names_no_address(page):
    assert all(target.startswith("#") for target in Cells(page).fetched)
    assert page.lower().count("http") == 1
    assert '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';' in page
    for way_out in ("<script", "<link", "<img", "@import", "//"):
        assert way_out not in page


def test_ids_are_unique_and_references_lead_somewhere(page):
    ids = Cells(page).ids
    assert len(ids) == len(set(ids))
    used = re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", page)
    assert used
    assert {a or b for a, b in used} <= set(ids)


def test_tables_and_plots_can_be_read_aloud(page):
    assert page.count("<table>") == page.count("<caption>") == 4 + 3 + 12
    assert all(scope in ("row", "col") for scope in Cells(page).scopes)
    assert page.count("<svg") == page.count('<svg role="img" aria-labelledby=') == 6
    assert page.count("<desc id=") == 6
    assert page.count("<details>") == 12
    assert "SP1 D+B: 97.2 %" in page
    assert "@media (prefers-color-scheme: dark)" in page


def test_plots_show_each_row_in_colours_of_the_theme(page):
    energy, payload, exits, *layers = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert [len(re.findall(rf">SP{n}<", energy)) for n in (1, 2, 3)] == [4, 4, 4]
    for name in ("F-B", "D-B", "F+B", "D+B", "edge-only", "edge-only dynamic"):
        assert f">{name}</text>" in energy
    assert ">edge energy per sample, modelled<" in energy
    assert ">10 µJ<" in energy
    assert ">payload per sample, measured<" in payload
    assert ">1 kbit<" in payload
    assert "SP1 D+B: [206, 98, 34, 22]" in exits
    assert exits.count(">57<") == 6
    assert len(layers) == 3
    assert ">block1.conv2</text>" in layers[0]
    assert "stem: 104,448, 19.0 %" in layers[0]
    for plot in (energy, payload, exits, *layers):
        assert "fill: var(--ink, #1f2328)" in plot
        assert not re.search(r"#0[0-9]0[0-9]0[0-9]\b", plot)


def test_the_facts_of_the_run_are_there(page):
    facts = dict(re.findall(r"<dt>(.*?)</dt>\s*<dd>(?:<code>)?(.*?)(?:</code>)?</dd>", page))
    assert facts == {
        "dataset": "digits", "samples": "360", "architecture": "resnet-small", "seed": "7",
        "encoding": "deterministic", "T_max": "4 timesteps", "exit policy": "confidence",
        "alpha": "0.9", "backend": "fused", "schedule": "gated",
        "energy model": "23 pJ per SynOp",
        "versions": "neucodex-lava 0.1.0, lava-nc 0.10.0, numpy 1.26.4, python 3.10.14",
        "command": "neucodex demo --out demo-run --alpha 0.9",
    }  # fmt: skip


def test_notes_depend_on_the_schedule(page):
    gated = "needs gated neurons, which no stock Loihi 2 neuron provides"
    pipelined = "t + L timesteps were fed"
    vain = f"link and cloud but no edge energy at: {SMALL.rows[0].split} D-B (depth 3)."
    assert gated in page
    assert pipelined not in page
    row = SMALL.rows[0]
    deep, shallow = (
        dataclasses.replace(row, configuration=name, edge_depth=depth, edge_timesteps=3.25)
        for name, depth in (("D-B", 3), ("D+B", 2))
    )
    other = html.render_html(dataclasses.replace(SMALL, schedule="pipelined", rows=[deep, shallow]))
    assert SMALL.t_max == 4
    shown = next(r for r in Cells(other).rows if r[0] == "D-B" and len(r) > 10)
    assert shown[6:9] == ["3", "3.25", "0 J"]
    assert gated not in other
    assert pipelined in other
    assert vain in other
    assert "wall time on this CPU, not chip time" in other
    assert "(100 of 360)" in other


def test_names_are_escaped_everywhere():
    evil = "<script>alert(1)</script>$\\frac$&\"'"
    row = RESULTS.rows[-1]
    layer = dataclasses.replace(row.layers[0], name=evil)
    results = dataclasses.replace(
        RESULTS,
        dataset=evil,
        command=evil,
        versions={evil: evil},
        rows=[
            dataclasses.replace(row, layers=[layer], reductions={evil: 2.0}),
            dataclasses.replace(row, configuration=evil + " dynamic"),
        ],
    )
    page = html.render_html(results)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 10


def test_the_oddest_file_that_can_be_read_still_makes_a_page():
    row = dataclasses.replace(
        RESULTS.rows[-1],
        configuration="D+B 動\n\t",
        accuracy=0.0,
        accuracy_interval=(0.0, 0.0),
        energy_j=1e-30,
        payload_bits=1e18,
        samples=0,
        exit_histogram=[10**18] * 256,
        layers=[dataclasses.replace(RESULTS.rows[-1].layers[0], name="n" * 4000, syn_ops=1e18)],
    )
    far = dataclasses.replace(row, configuration="D+B", energy_j=1e18, exit_histogram=[0, 0])
    odd = dataclasses.replace(RESULTS, t_max=256, alpha=-1e18, seed=-(10**18), rows=[row, far])
    page = html.render_html(Results.from_json(odd.to_json()))
    assert "1.00e-30 J" in page
    assert "1.00 EJ" in page


def test_the_page_is_the_same_for_the_same_results(page):
    assert html.render_html(example_results()) == page


def test_a_run_without_rows_without_layers_or_without_baselines_still_makes_a_page():
    bare = [dataclasses.replace(r, layers=[], reductions={}) for r in RESULTS.rows[-2:]]
    assert "<details>" not in html.render_html(dataclasses.replace(RESULTS, rows=bare))
    empty = html.render_html(dataclasses.replace(RESULTS, rows=[]))
    assert "This run holds no D+B row" in empty
    assert "<svg" not in empty


def test_a_report_is_page_and_json(tmp_path):
    path = html.write_report(SMALL, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    assert path.read_text() == html.render_html(SMALL)
    expected = dataclasses.replace(SMALL, report=str(path))
    assert Results.read(path.with_name("results.json")) == expected
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "results.json"]


def test_a_failed_write_leaves_the_old_report_and_nothing_half_written(tmp_path, monkeypatch):
    html.write_report(SMALL, tmp_path)
    old = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        html.write_report(dataclasses.replace(SMALL, seed=8), tmp_path)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old
    with pytest.raises(FormatError):
        html.write_report(dataclasses.replace(SMALL, alpha=float("nan")), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old


def test_a_folder_that_cannot_be_made_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write a report into .*file"):
        html.write_report(SMALL, tmp_path / "file")


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_missing_package_says_how_to_get_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=f"needs? {module}") as caught:
        html.render_html(SMALL)
    assert caught.value.hint == 'pip install "neucodex-lava[report]"'
