"""``docs/verified.md`` from the results of `benchmarks.verified`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.verified_cases import STOCK

Result = dict[str, Any]
COMPARED = ("spikes", "potentials", "counts")

HEAD = """# Verified

`make verified` made this page from {cases} cases; nothing in it is edited by hand. Compared with `==`:
**{spikes:,} spikes and running sums, {potentials:,} potentials, {counts:,} counts; {differences}
differ.**

ResNet-18 and VGG-16 have full width and seeded random weights; their batch norms were set with images,
so that every layer fires as one of a trained network does (`benchmarks/networks.py`), and they were
quantised by the project's own path. The input is more such images: {images}.
SLAYER's own modules (`slayer`; each synapse's sums rounded to the integers they are) gave every node's
spikes and potentials and the readout's sums. Counts are those spikes times the fan-out maps: they say
that all backends saw the same spikes at the same places; the maps themselves are checked against plain
loops, Sinabs and NeuroBench on smaller networks (`make crosscheck`). The small networks hold what the
large ones do not: delays, dilation, groups, graded input, exponents, transposed convolutions, decays of
all kinds; plain loops gave spikes and counts alike. All other backends are compared node by node and
timestep by timestep:

* `twin`: the torch executor, the whole network, what lies behind the cut as well;
* `fused gated`, `fused pipelined`: our Lava process, the part before the cut;
* `reference pipelined`: stock Lava processes, the part before the cut; it shows potentials of the small
  networks only.

Not compared: T of 3, 5, 6 and 7 on the two larger inputs, and their split points at T above 2
(128x128x2: above 1); stock Lava at other split points than those named (the SP7 head of ResNet-18 is in
`neucodex bench sim`); trained weights of full width. VGG-16 has 13 convolutions, strides instead of
pooling, and no hidden dense layer.

A split network has its encoder at the split point; a network without is run to its readout. Seconds are
wall time of all backends on a busy machine and only tell what is cheap. A result is kept until its
network changes; the commits are those at which checks ran.

Versions: {versions}. Dates: {dates}.

## Summary

"""
SUMMARY = (
    "network", "input", "T", "split points", "nodes*", "spikes*", "potentials*", "counts*",
    "backends", "differences*", "seconds*",
)  # fmt: skip
EVERY = (
    "network", "input", "T*", "split point", "samples*", "SynOps*", "backend", "nodes*", "spikes*",
    "potentials*", "counts*", "differences*", "seconds*",
)  # fmt: skip


def table(results: Sequence[Result]) -> str:
    """Markdown: a summary by network and input, then every case and backend."""
    results = [
        r | {"checks": {b: r["checks"][b] for b in STOCK if b in r["checks"]}} for r in results
    ]
    checks = [c for r in results for c in r["checks"].values()]
    images = {r["images"] for r in results if r["oracle"] == "slayer"}
    text = HEAD.format(
        cases=len(results),
        **{what: sum(c[f"{what}_compared"] for c in checks) for what in COMPARED},
        differences=sum(differences(c) for c in checks),
        images="; ".join(sorted(images)),
        versions="; ".join(_versions(results)),
        dates=", ".join(sorted({c["date"] for c in checks})),
    )
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for r in results:
        key = (r["network"], r["input"], bool(r["split"]), tuple(r["checks"]))
        groups.setdefault(key, []).append(r)
    lines = [_head(SUMMARY), *map(_group_row, groups.values()), "\n## Every case\n\n"]
    return text + "".join((*lines, _head(EVERY), *_rows(results)))


def differences(check: Result) -> int:
    """Spikes, sums, potentials and counts that differ."""
    return sum(check[f"{what}_differ"] for what in COMPARED)


def _group_row(group: list[Result]) -> str:
    checks = [c for r in group for c in r["checks"].values()]
    splits = sorted({r["split"] for r in group})
    edge = sorted({r["edge_nodes"] for r in group})
    return _line(
        group[0]["network"]
        + (f" ({len(group)} nets)" if group[0]["network"] == "random_net" else ""),
        group[0]["input"],
        _ranges(sorted({r["timesteps"] for r in group})),
        "none" if splits == [0] else f"SP{_ranges(splits)}",
        f"{edge[0]}-{edge[-1]}" if len(edge) > 1 else str(edge[0]),
        *(f"{sum(c[f'{what}_compared'] for c in checks):,}" for what in COMPARED),
        ", ".join([group[0]["oracle"], *group[0]["checks"]]),
        str(sum(differences(c) for c in checks)),
        f"{sum(r['oracle_s'] for r in group) + sum(c['seconds'] for c in checks):.0f}",
    )


def _rows(results: Iterable[Result]) -> Iterable[str]:
    for r in results:
        for name, check in r["checks"].items():
            yield _line(
                r["network"],
                r["input"],
                str(r["timesteps"]),
                f"SP{r['split']}" if r["split"] else "none",
                str(r["samples"]),
                f"{r['syn_ops']:,}",
                name,
                str(check["nodes"]),
                *(f"{check[f'{what}_compared']:,}" for what in COMPARED),
                str(differences(check)),
                f"{check['seconds']:.1f}",
            )


def _ranges(numbers: Sequence[int]) -> str:
    """``1-3, 5``."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def _versions(results: Iterable[Result]) -> list[str]:
    seen: dict[str, set[str]] = {}
    for r in results:
        for name, version in r["versions"].items():
            seen.setdefault(name, set()).add(version)
        seen.setdefault("commit", set()).update(c["commit"] for c in r["checks"].values())
    wanted = ("neucodex-lava", "lava-nc", "lava-dl", "torch", "numpy", "numba", "python", "commit")
    return [f"{name} {', '.join(sorted(seen[name]))}" for name in wanted if name in seen]


def _head(columns: Sequence[str]) -> str:
    """Column names; those ending in ``*`` are set right."""
    names = _line(*(c.rstrip("*") for c in columns))
    return names + _line(*("---:" if c.endswith("*") else "---" for c in columns))


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |\n"
