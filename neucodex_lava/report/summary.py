"""What the figures say, in plain words."""

from __future__ import annotations

from neucodex_lava.report.columns import (
    EDGE_ONLY_DYNAMIC,
    ORACLE,
    edge_only,
    energy_ratio,
    policies,
    row_name,
)
from neucodex_lava.report.results import Results, Row
from neucodex_lava.report.si import count, interval, percent, si, times

MAX_LOSS = 0.02


def best_row(results: Results) -> Row | None:
    """The D+B row of least edge energy at most two points below edge-only, by the first exit policy.

    The oracle's rows aside. Where none is that accurate, or there is no edge-only row, the most
    accurate D+B row; None without any D+B row. Choosing among policies too would choose one on the
    very samples that it is tested on.
    """
    rows = [r for r in results.rows if r.configuration == "D+B" and r.policy != ORACLE]
    first = next((name for name in policies(results) if name in {r.policy for r in rows}), "")
    rows = [r for r in rows if r.policy == first]
    base = edge_only(results)
    floor = 1.0 if base is None else base.accuracy - MAX_LOSS
    # Accuracies are counts over counts: the slack only absorbs floating point.
    good = [r for r in rows if r.accuracy >= floor - 1e-9]
    if good and base is not None:
        return min(good, key=lambda r: r.energy_j)
    return max(rows, key=lambda r: r.accuracy, default=None)


def summary(results: Results) -> str:
    """One paragraph: the best D+B row, what it costs and what it saves."""
    row = best_row(results)
    if row is None:
        return "This run holds no D+B row (dynamic timesteps with the bottleneck)."
    base = edge_only(results)
    edge = "" if base is None else f"; the whole network on the edge: {percent(base.accuracy)}"
    several = len(policies(results)) > 1
    policy = f" by the exit policy {row.policy}, the first asked for," if several else ""
    text = (
        f"Cut at {row.split}, with dynamic timesteps{policy} and the bottleneck (D+B), the network "
        "answers "
        f"{percent(row.accuracy)} of {row.samples:,} samples correctly "
        f"(95 % interval {interval(*row.accuracy_interval)} %{edge}), after "
        f"{row.mean_timesteps:.2f} of {results.t_max} timesteps on average. "
        f"Its edge part takes {si(row.energy_j, 'J')} per sample by the energy model"
    )
    ratio = energy_ratio(results, row)
    if ratio is not None:
        less = f"{percent(1 - ratio, 0)} less" if ratio <= 1 else f"{percent(ratio - 1, 0)} more"
        text += f", {less} than edge-only"
    ratio = energy_ratio(results, row, EDGE_ONLY_DYNAMIC)
    if ratio is not None:
        less = f"{percent(1 - ratio, 0)} less" if ratio <= 1 else f"{percent(ratio - 1, 0)} more"
        text += f" and {less} than edge-only with dynamic timesteps, which a split must beat"
    return f"{text}. {_payload(results, row)}{_why(row, base, several)}"


def _payload(results: Results, row: Row) -> str:
    plain = next(
        (r for r in results.rows if r.split == row.split and r.configuration == "F-B"), None
    )
    text = f"It sends {count(row.payload_bits)} bits per sample"
    if plain is None or row.payload_bits <= 0:
        return f"{text}."
    packed = times(plain.packed_bits / row.payload_bits)
    raw = times(plain.raw_bits / row.payload_bits)
    return (
        f"{text}; all timesteps without the bottleneck (F-B) would take {packed} times as many "
        f"bit-packed, {raw} times as many as 32-bit floats."
    )


def _why(row: Row, base: Row | None, several: bool) -> str:
    if base is None:
        return ""
    if row.accuracy >= base.accuracy - MAX_LOSS - 1e-9:
        whose = "this policy's" if several else "the"
        found = (
            f" Of {whose} D+B rows at most two points less accurate than edge-only, it needs least"
        )
        return f"{found} energy."
    return " No cut is within two points of edge-only; this one is the most accurate."


def notes(results: Results) -> list[str]:
    """What a reader must know before quoting a figure."""
    found: list[str] = []
    if results.schedule == "gated":
        found.append(
            "Schedule gated: needs gated neurons, which no stock Loihi 2 neuron provides. Stopping "
            "after a timestep really saves the edge work of the following ones."
        )
    if results.schedule == "pipelined":
        found += _pipelined_notes(results)
    found.append(
        "Edge time is the simulator's wall time on this CPU, not chip time; round trip and cloud "
        "time are of this machine and its link."
    )
    through = sorted({(r.measured_samples, r.samples) for r in results.rows if r.measured_samples})
    if through:
        spoken = "; ".join(f"{m:,} of {n:,}" for m, n in through)
        found.append(
            f"Times are means over the samples that really went through Lava and the bridge "
            f"({spoken}); their answers, timesteps, counts, payloads and message sizes equal those of "
            "the executor, from which accuracy, counts and bits over all samples come."
        )
    found.append(
        "Wire bytes are our messages with gRPC's framing of each; TCP, IP and the connection's "
        "control frames are not in them: on codes of a few bytes 1.4 times as many were seen."
    )
    found.append(
        "Edge energy prices the edge part's counts alone: no radio, no cloud, no static power. "
        "The paper's formula is MACs × firing rate × timesteps × 23 pJ."
    )
    found += exit_notes(results)
    found.append("Bits, bytes, counts, energy and times are means per sample.")
    return found


def exit_notes(results: Results) -> list[str]:
    """How policies were calibrated and on what, and what else a reader of exits must know."""
    found: list[str] = []
    if results.left_out:
        found.append(
            f"{results.left_out:,} test samples on which an exit policy was calibrated are left out "
            "of every figure."
        )
    if results.calibrations:
        ways = dict.fromkeys(results.calibrations.values())
        groups = {how: [n for n, h in results.calibrations.items() if h == how] for how in ways}
        spoken = "; ".join(f"{', '.join(names)} on {how}" for how, names in groups.items())
        found.append(f"Calibrated exit policies: {spoken}.")
    if ORACLE in policies(results):
        found.append(
            "The oracle stops each sample as soon as its answer is right and stays right. It needs the "
            "labels: no policy can decide so, and none did in Lava."
        )
    if any(r.configuration in ("P-B", "P+B") for r in results.rows):
        found.append(
            "P-B, and P+B with the bottleneck: after each timestep the exit head before the cut "
            "answers (answered locally), or the cloud, or the sample goes on (policy place)."
        )
    if any(r.exits for r in results.rows):
        found.append(
            "Edge-only exits: the whole network on the edge, which stops at one of its exit heads "
            "instead of early in time: all its timesteps run."
        )
    nans = [f"{row_name(results, r)}: {r.not_numbers:,}" for r in results.rows if r.not_numbers]
    if nans:
        spoken = "; ".join(nans)
        found.append(f"Timesteps whose logits held NaN, on which no policy stops: {spoken}.")
    return found


def _pipelined_notes(results: Results) -> list[str]:
    """What early exits save on the edge, and what its energy holds beside the samples' own work."""
    vain = vain_exits(results)
    return [
        "Schedule pipelined: when the code of timestep t leaves a pipeline of depth L, t + L timesteps "
        "were fed. A decision then saves the edge the other T - t - L, and link and cloud all T - t.",
        *([vain] if vain else []),
        "Edge energy holds the run's work outside of the samples' windows, divided by its samples: "
        "filling and draining the pipeline, and the neurons' updates and biases in timesteps that were "
        "not fed.",
    ]


def vain_exits(results: Results) -> str:
    """Which rows' pipelines are so deep that an early exit saves no edge energy; empty if none."""
    named = [
        f"{r.split or ''} {r.configuration} (depth {r.edge_depth})".strip()
        for r in results.rows
        if r.edge_depth and r.dynamic
        if saves_nothing(results.t_max, r.edge_depth)
    ]
    if not named:
        return ""
    return (
        f"With T = {results.t_max} an early exit saves link and cloud but no edge energy at: "
        f"{', '.join(dict.fromkeys(named))}."
    )


def saves_nothing(t_max: int, depth: int) -> bool:
    """Whether even a decision by the first timestep comes when all timesteps were fed."""
    return t_max <= depth + 1
