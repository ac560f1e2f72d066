"""The report's plots, as SVG for inlining (see `svg`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neucodex_lava.report import svg
from neucodex_lava.report.columns import edge_only, exit_rows, policies, row_name
from neucodex_lava.report.results import LayerRow, Results, Row
from neucodex_lava.report.si import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# configuration: (colour, marker); the shape tells them apart without colour.
_STYLES: dict[str, tuple[str, str]] = {
    "F-B": (svg.BLUE, "s"),
    "D-B": (svg.GREEN, "D"),
    "F+B": (svg.ORANGE, "^"),
    "D+B": (svg.PURPLE, "o"),
    "edge-only": (svg.INK, "*"),
    "edge-only dynamic": (svg.GREY, "P"),
    "cloud-only": (svg.GREY, "X"),
}
_OTHER = (svg.GREY, "v")
# Steps of viridis; outlined, since any ramp from dark to light has an end like its background.
_RAMP = ("#414487", "#2f6b8e", "#218e8d", "#28ae80", "#62cb5f", "#addc30", "#e2e418")
_MAX_LAYERS = 60
_MAX_LEGEND = 16


@svg.drawn
def accuracy_energy(results: Results) -> svg.Plot | None:
    """Accuracy against edge energy; None where no row has any."""
    rows = [r for r in results.rows if r.energy_j > 0]
    return _scatter(
        results,
        rows,
        lambda r: r.energy_j,
        (
            "accuracy-energy",
            "Accuracy against edge energy",
            "edge energy per sample, modelled",
            "J",
        ),
    )


@svg.drawn
def accuracy_payload(results: Results) -> svg.Plot | None:
    """Accuracy against the bits sent; None where nothing is sent."""
    rows = [r for r in results.rows if r.payload_bits > 0]
    return _scatter(
        results,
        rows,
        lambda r: r.payload_bits,
        ("accuracy-payload", "Accuracy against payload", "payload per sample, measured", "bit"),
    )


def _scatter(
    results: Results, rows: list[Row], x: Callable[[Row], float], words: tuple[str, str, str, str]
) -> svg.Plot | None:
    if not rows:
        return None
    name, title, label, unit = words
    fig, (ax,) = svg.figure(7.2, 4.2)
    ax.set_xscale("log")
    for configuration in dict.fromkeys(r.configuration for r in rows):
        mine = [r for r in rows if r.configuration == configuration]
        colour, marker = _STYLES.get(configuration, _OTHER)
        at = [x(r) for r in mine]
        ax.vlines(
            at,
            [100 * r.accuracy_interval[0] for r in mine],
            [100 * r.accuracy_interval[1] for r in mine],
            color=colour,
            linewidth=1,
            alpha=0.45,
        )
        ax.plot(
            at,
            [100 * r.accuracy for r in mine],
            linestyle="-" if len(mine) > 1 else "none",
            linewidth=0.8,
            marker=marker,
            markersize=9 if marker == "*" else 6.5,
            color=colour,
            label=configuration[:40],
            clip_on=False,
        )
    base = edge_only(results)
    if base is not None:
        ax.axhline(100 * base.accuracy, color=svg.INK, linewidth=0.8, linestyle=(0, (4, 3)))
    _ticks(ax, [x(r) for r in rows], unit)
    ax.set_xlabel(label)
    ax.set_ylabel("accuracy, measured (%)")
    _label_splits(ax, rows, x)
    fig.legend(loc="outside upper center", ncols=4)
    spoken = "; ".join(
        f"{r.split or ''} {r.configuration}: {percent(r.accuracy)}".strip() for r in rows[:40]
    )
    return svg.render(fig, name, title, f"{spoken}. Bars: 95 % intervals.")


def _ticks(ax: Axes, values: list[float], unit: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = min(values), max(values)
    ax.set_xlim(low / 1.35, high * 1.35)
    narrow = high / low < 30
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=8))
    ax.xaxis.set_minor_formatter(NullFormatter())
    svg.si_axis(ax.xaxis, unit)


def _label_splits(ax: Axes, rows: list[Row], x: Callable[[Row], float]) -> None:
    """Write each point's split beside it, at the first of eight places that is still free."""
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    points = [ax.transData.transform((x(r), 100 * r.accuracy)) for r in rows]
    taken = [(px - 4.0, py - 4.0, px + 4.0, py + 4.0) for px, py in points]
    for row, (px, py) in zip(rows, points):
        if row.split is None:
            continue
        half, height = 3.4 * len(row.split), 10.0
        for dx, dy in _PLACES:
            cx, cy = px + dx * (half + 5), py + dy * 9
            box = (cx - half, cy - height / 2, cx + half, cy + height / 2)
            if not any(_overlap(box, other) for other in taken):
                break
        else:
            continue
        taken.append(box)
        scale = 72 / ax.figure.dpi
        ax.annotate(
            row.split,
            (x(row), 100 * row.accuracy),
            xytext=((cx - px) * scale, (cy - py) * scale),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            color=_STYLES.get(row.configuration, _OTHER)[0],
        )


_PLACES = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1.6), (0, -1.6))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@svg.drawn
def exit_histogram(results: Results) -> svg.Plot | None:
    """Share of samples that stopped after each timestep, a bar per dynamic configuration."""
    shown = exit_rows(results) if len(policies(results)) > 1 else results.rows
    rows = [r for r in shown if r.dynamic and sum(r.exit_histogram) and not r.exits]
    if not rows:
        return None
    names = [f"{r.split or ''} {row_name(results, r)}".strip()[:50] for r in rows]
    histograms = [r.exit_histogram for r in rows]
    steps = [f"{step + 1}" for step in range(max(map(len, histograms)))]
    fig = share_bars(names, histograms, steps, "stopped after timestep")
    spoken = "; ".join(f"{n}: {r.exit_histogram[:16]}" for n, r in zip(names[:20], rows))
    return svg.render(fig, "exits", "Timesteps at which samples stopped", spoken)


def share_bars(
    names: list[str], histograms: list[list[int]], steps: list[str], title: str
) -> Figure:
    """A bar of 100 % for each histogram that is not empty, in as many colours as it has steps."""
    fig, (ax,) = svg.figure(7.2, 1.3 + 0.3 * len(names))
    outline: dict[str, Any] = {"height": 0.74, "edgecolor": svg.GREY, "linewidth": 0.6}
    for step, label in enumerate(steps):
        colour = _RAMP[step % len(_RAMP)]
        ink = "#000000" if step % len(_RAMP) >= 3 else "#ffffff"
        for at, histogram in enumerate(histograms):
            shares = [count / max(sum(histogram), 1) for count in histogram]
            if step < len(shares) and shares[step] > 0:
                left = 100 * sum(shares[:step])
                ax.barh(at, 100 * shares[step], left=left, color=colour, **outline)
                if shares[step] >= 0.055:
                    middle = left + 50 * shares[step]
                    text = f"{100 * shares[step]:.0f}"
                    ax.text(middle, at, text, ha="center", va="center", color=ink, fontsize=8.5)
        if step < _MAX_LEGEND:
            ax.barh(0, 0, color=colour, label=label, **outline)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(0, 100)
    ax.set_xlabel("share of samples, measured (%)")
    ax.grid(False, axis="y")
    fig.legend(loc="outside upper center", ncols=8, title=title)
    return fig


@svg.drawn
def layers(row: Row) -> svg.Plot | None:
    """SynOps and firing rate per layer of one row, edge and cloud apart."""
    shown = row.layers[:_MAX_LAYERS]
    if not shown:
        return None
    fig, (left, right) = svg.figure(7.2, 1.3 + 0.24 * len(shown), 2)
    _bars(left, shown, [x.syn_ops for x in shown], "SynOps per sample, simulated")
    svg.si_axis(left.xaxis, "")
    left.set_yticks(range(len(shown)), [_middle(x.name) for x in shown])
    _bars(right, shown, [100 * x.firing_rate for x in shown], "firing rate, simulated (%)")
    right.set_yticks(range(len(shown)), [""] * len(shown))
    handles, labels = left.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2)
    where = f"{row.split or ''} {row.configuration}".strip()
    spoken = "; ".join(f"{x.name}: {x.syn_ops:,.0f}, {percent(x.firing_rate)}" for x in shown)
    name = "layers-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in where)
    return svg.render(fig, name, f"SynOps and firing rate per layer, {where}", spoken)


def _bars(ax: Axes, shown: list[LayerRow], values: list[float], label: str) -> None:
    for side, colour in (("edge", svg.BLUE), ("cloud", svg.GREY)):
        at = [i for i, x in enumerate(shown) if (x.side == "cloud") is (side == "cloud")]
        if at:
            ax.barh(at, [values[i] for i in at], color=colour, height=0.74, label=side)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.set_xlabel(label)
    ax.grid(False, axis="y")
    ax.locator_params(axis="x", nbins=4)


def _middle(name: str, most: int = 26) -> str:
    keep = most // 2 - 1
    return name if len(name) <= most else f"{name[:keep]}…{name[-keep:]}"
