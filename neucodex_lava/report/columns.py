"""The figures of a row, in order: what each is called, where it comes from, how it is shown.

The terminal and the page are made from the same list, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from neucodex_lava.report.results import LayerRow, Results, Row
from neucodex_lava.report.si import DASH, change, count, interval, percent, si

Kind = Literal["measured", "simulated", "modelled"]

KINDS: dict[Kind, str] = {
    "measured": "answers on real samples, or a clock on this machine",
    "simulated": "counted in a simulation of the chip on this CPU, spike for spike",
    "modelled": "worked out from counts by a stated formula, never observed",
}


@dataclass(frozen=True)
class Column:
    """One figure of a row.

    Attributes:
        key: the row's field, or a name of its own where it is worked out.
        heading: a few words on one or two lines; the unit is in the cell.
        kind: where the figure comes from; None for what is no figure.
        show: the cell's text.
    """

    key: str
    heading: str
    kind: Kind | None
    show: Callable[[Results, Row], str]


EDGE_ONLY, EDGE_ONLY_DYNAMIC = "edge-only", "edge-only dynamic"
ORACLE = "oracle"


def policies(results: Results) -> list[str]:
    """Exit policies of the dynamic rows, in their order."""
    return list(dict.fromkeys(r.policy for r in results.rows if r.dynamic))


def of_policy(results: Results, names: Sequence[str]) -> Results:
    """The same with only the dynamic rows of these exit policies."""
    rows = [r for r in results.rows if not r.dynamic or r.policy in names]
    return replace(results, rows=rows)


def row_name(results: Results, row: Row) -> str:
    """A row's configuration, with its exit policy where there are several."""
    several = row.dynamic and len(policies(results)) > 1
    return f"{row.configuration} {row.policy}" if several else row.configuration


def edge_only(results: Results, baseline: str = EDGE_ONLY, policy: str = "") -> Row | None:
    """The edge-only row against which savings are counted, with fixed or dynamic timesteps.

    Of dynamic ones that of this exit policy, else the first.
    """
    found = [r for r in results.rows if r.configuration == baseline]
    return next((r for r in found if r.policy == policy), found[0] if found else None)


def energy_ratio(results: Results, row: Row, baseline: str = EDGE_ONLY) -> float | None:
    """Edge energy of a row over that of edge-only; None where there is nothing to compare.

    That is the baseline itself, and cloud-only: an edge that computes nothing saves nothing.
    """
    base = edge_only(results, baseline, row.policy)
    if base is None or row is base or base.energy_j <= 0 or row.energy_j <= 0:
        return None
    return row.energy_j / base.energy_j


def _accuracy(_: Results, row: Row) -> str:
    return f"{100 * row.accuracy:.1f} ({interval(*row.accuracy_interval)})"


def _pipelined(show: Callable[[Row], str]) -> Callable[[Results, Row], str]:
    """A figure of a pipelined edge: a dash where none ran."""
    return lambda _, row: show(row) if row.edge_depth else DASH


def _code(_: Results, row: Row) -> str:
    return DASH if row.code_shape is None else "×".join(map(str, row.code_shape))


def _sent(value: Callable[[Row], float]) -> Callable[[Results, Row], str]:
    """A figure of the link: a dash where nothing is sent."""
    return lambda _, row: DASH if row.configuration.startswith("edge-only") else count(value(row))


def _coded(value: Callable[[Row], float | None]) -> Callable[[Results, Row], str]:
    """A figure of coded codes: a dash where it was not worked out."""

    def show(_: Results, row: Row) -> str:
        found = value(row)
        return DASH if found is None else count(found)

    return show


ANSWER_COLUMNS: tuple[Column, ...] = (
    Column("accuracy", "accuracy, %\n(95 % interval)", "measured", _accuracy),
    Column("mean_timesteps", "timesteps", "measured", lambda _, r: f"{r.mean_timesteps:.2f}"),
    Column("syn_ops", "edge\nSynOps", "simulated", lambda _, r: count(r.syn_ops)),
    Column("macs", "edge\nMACs", "simulated", lambda _, r: count(r.macs)),
    Column("energy_j", "edge\nenergy", "modelled", lambda _, r: si(r.energy_j, "J")),
    Column(
        "against_edge_only",
        "vs\nedge-only",
        "modelled",
        lambda results, r: change(energy_ratio(results, r)),
    ),
    Column(
        "against_edge_only_dynamic",
        "vs dynamic\nedge-only",
        "modelled",
        lambda results, r: change(energy_ratio(results, r, EDGE_ONLY_DYNAMIC)),
    ),
    Column(
        "energy_paper_j", "paper's\nformula", "modelled", lambda _, r: si(r.energy_paper_j, "J")
    ),
)

PIPELINE_COLUMNS: tuple[Column, ...] = (
    Column("edge_depth", "pipeline\ndepth", None, _pipelined(lambda r: str(r.edge_depth))),
    Column(
        "edge_timesteps",
        "timesteps\nfed to it",
        "simulated",
        _pipelined(lambda r: f"{r.edge_timesteps or 0:.2f}"),
    ),
    Column(
        "outside_energy_j",
        "energy outside\nof windows",
        "modelled",
        _pipelined(lambda r: si(r.outside_energy_j, "J")),
    ),
)


def _local(_: Results, row: Row) -> str:
    return DASH if row.local_share is None else percent(row.local_share)


LINK_COLUMNS: tuple[Column, ...] = (
    Column("code_shape", "code\nC×H×W", None, _code),
    Column("raw_bits", "raw\nbits", "modelled", _sent(lambda r: r.raw_bits)),
    Column("packed_bits", "packed\nbits", "modelled", _sent(lambda r: r.packed_bits)),
    Column("payload_bits", "sent\nbits", "modelled", _sent(lambda r: r.payload_bits)),
    Column("coded_bits", "coded\nbits", "modelled", _coded(lambda r: r.coded_bits)),
    Column("entropy_bits", "entropy\nlimit", "modelled", _coded(lambda r: r.entropy_bits)),
    Column("wire_bytes", "wire\nbytes", "modelled", _sent(lambda r: r.wire_bytes)),
    Column("edge_s", "edge sim.\ntime", "measured", lambda _, r: si(r.edge_s, "s")),
    Column("local_share", "answered\nlocally", "measured", _local),
    Column("roundtrip_s", "round\ntrip", "measured", lambda _, r: si(r.roundtrip_s, "s")),
    Column("cloud_s", "cloud\ntime", "measured", lambda _, r: si(r.cloud_s, "s")),
)


def lost(results: Results, row: Row) -> float | None:
    """Accuracy that exits cost a dynamic row: that of the same network at T_max, less its own."""
    if not row.dynamic:
        return None
    fixed = f"F{row.configuration[1:]}" if row.split else EDGE_ONLY
    same = (r for r in results.rows if (r.split, r.configuration) == (row.split, fixed))
    whole = next(same, None)
    return None if whole is None else whole.accuracy - row.accuracy


def _lost(results: Results, row: Row) -> str:
    found = lost(results, row)
    return DASH if found is None else f"{100 * found + 0.0:.2f}"


def _oct(_: Results, row: Row) -> str:
    return DASH if row.oct is None else f"{row.oct:.2f}"


def _beyond(_: Results, row: Row) -> str:
    return DASH if row.oct is None else f"{row.mean_timesteps - row.oct:+.2f}"


def _error(_: Results, row: Row) -> str:
    return DASH if row.ece is None else percent(row.ece, 2)


def _nan(_: Results, row: Row) -> str:
    return count(row.not_numbers) if row.not_numbers else DASH


EXIT_COLUMNS: tuple[Column, ...] = (
    Column("lost", "accuracy\nlost, points", "measured", _lost),
    Column("timesteps", "timesteps", "measured", lambda _, r: f"{r.mean_timesteps:.2f}"),
    Column("oct", "oracle's\n(OCT)", "measured", _oct),
    Column("beyond_oct", "beyond\noracle", "measured", _beyond),
    Column("ece", "calibration\nerror", "measured", _error),
    Column("not_numbers", "timesteps\nwith NaN", "measured", _nan),
)


@dataclass(frozen=True)
class LayerColumn:
    """One count of a layer; all are counted in the simulation."""

    key: str
    heading: str
    show: Callable[[LayerRow], str]


LAYER_COLUMNS: tuple[LayerColumn, ...] = (
    LayerColumn("syn_ops", "SynOps", lambda x: count(x.syn_ops)),
    LayerColumn("syn_ops_nonzero", "of weight\n≠ 0", lambda x: count(x.syn_ops_nonzero)),
    LayerColumn("macs", "MACs", lambda x: count(x.macs)),
    LayerColumn("dendrite_updates", "neuron\nupdates", lambda x: count(x.dendrite_updates)),
    LayerColumn("spikes_in", "spikes\nin", lambda x: count(x.spikes_in)),
    LayerColumn("axon_out", "spikes\nout", lambda x: count(x.axon_out)),
    LayerColumn("firing_rate", "firing\nrate", lambda x: percent(x.firing_rate)),
)


def layer_total(layers: Sequence[LayerRow]) -> LayerRow:
    """Counts summed over layers; a firing rate has no sum and is 0."""
    counts = [c.key for c in LAYER_COLUMNS if c.key != "firing_rate"]
    sums = {key: sum(getattr(x, key) for x in layers) for key in counts}
    return LayerRow(name="total", side="", firing_rate=0.0, **sums)


def answer_columns(results: Results) -> tuple[Column, ...]:
    """Accuracy, counts and energy; MACs only where graded input made some."""
    some = any(r.macs for r in results.rows)
    return tuple(c for c in ANSWER_COLUMNS if c.key != "macs" or some)


def pipeline_columns(results: Results) -> tuple[Column, ...]:
    """What the pipelined schedule adds; nothing where no edge part was pipelined."""
    return PIPELINE_COLUMNS if any(r.edge_depth for r in results.rows) else ()


def exit_rows(results: Results) -> list[Row]:
    """Dynamic rows whose exits differ: a base has the same ones wherever it is cut."""
    uncut = any(r.configuration == EDGE_ONLY_DYNAMIC for r in results.rows)
    return [r for r in results.rows if r.dynamic and not (uncut and r.configuration == "D-B")]


def by_split(rows: Sequence[Row]) -> dict[str | None, list[Row]]:
    """Rows by split point, in their order; those without a cut come first, under None."""
    groups: dict[str | None, list[Row]] = {None: [r for r in rows if r.split is None]}
    for row in rows:
        if row.split is not None:
            groups.setdefault(row.split, []).append(row)
    return {split: rows for split, rows in groups.items() if rows}
