"""Accuracy against mean timesteps: every exit policy on one network, and the oracle."""

from __future__ import annotations

import itertools

from neucodex_lava.report import svg
from neucodex_lava.report.columns import EDGE_ONLY, ORACLE, policies
from neucodex_lava.report.results import Results, Row
from neucodex_lava.report.si import percent

COLOURS = (svg.BLUE, svg.ORANGE, svg.GREEN, svg.PURPLE, svg.GREY)
MARKERS = "osD^vPXph<>d"


def accuracy_timesteps(results: Results) -> list[svg.Plot]:
    """A plot for each network: the base as a whole, and each split bundle."""
    splits = [None, *dict.fromkeys(r.split for r in results.rows if r.configuration == "D+B")]
    plots = (_accuracy_timesteps(results, split) for split in splits)
    return [plot for plot in plots if plot is not None]


@svg.drawn
def _accuracy_timesteps(results: Results, split: str | None) -> svg.Plot | None:
    """One network's; None where no policy may stop early on it, or an older version evaluated it."""
    dynamic, fixed = ("edge-only dynamic", EDGE_ONLY) if split is None else ("D+B", "F+B")
    mine = [r for r in results.rows if r.split == split]
    rows = [r for r in mine if r.configuration == dynamic and r.policy != ORACLE]
    whole = next((r for r in mine if r.configuration == fixed), None)
    if not any(row.oct is not None for row in rows):
        return None
    fig, (ax,) = svg.figure(7.2, 4.2)
    curves = {c.policy: c for c in results.curves if c.split == split}
    names = dict.fromkeys(["fixed", *(p for p in policies(results) if p != ORACLE)])
    styles = zip(names, itertools.cycle(COLOURS), itertools.cycle(MARKERS))
    for name, colour, marker in styles:
        line = curves.get(name)
        if line is not None:
            ax.plot(
                line.timesteps,
                [100 * a for a in line.accuracy],
                color=colour,
                linewidth=0.9,
                alpha=0.7,
                linestyle=(0, (4, 3)) if name == "fixed" else "-",
                label="fixed" if name == "fixed" and name not in policies(results) else None,
            )
        for row in (r for r in rows if r.policy == name):
            ax.plot(
                [row.mean_timesteps],
                [100 * row.accuracy],
                linestyle="none",
                marker=marker,
                markersize=6.5,
                color=colour,
                label=name[:40],
                clip_on=False,
            )
    spoken = [_spoken(row) for row in rows]
    oct_, best = rows[0].oct, whole.accuracy if whole else None
    if oct_ is not None and best is not None:
        ax.plot(
            [oct_],
            [100 * best],
            linestyle="none",
            marker="*",
            markersize=12,
            color=svg.INK,
            label="oracle (OCT)",
            clip_on=False,
        )
        spoken.append(f"oracle: {percent(best)} after {oct_:.2f}")
    ax.set_xlim(0.9, results.t_max + 0.1)
    ax.set_xlabel("mean timesteps, measured")
    ax.set_ylabel("accuracy, measured (%)")
    fig.legend(loc="outside upper center", ncols=3)
    where = "the whole network" if split is None else f"{split} with its bottleneck"
    title = f"Accuracy against mean timesteps, {where}"
    return svg.render(fig, f"policies-{(split or 'base').lower()}", title, "; ".join(spoken))


def _spoken(row: Row) -> str:
    return f"{row.policy}: {percent(row.accuracy)} after {row.mean_timesteps:.2f} timesteps"
