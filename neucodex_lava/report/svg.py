"""Matplotlib figures as SVG for inlining in a page, in colours that follow light and dark.

Figures are drawn in stand-in colours, which become CSS variables with a light fallback: the page
sets the variables once per theme. Text stays text, so it is searched, scaled and read aloud.
"""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from neucodex_lava.errors import MissingDependencyError
from neucodex_lava.report.si import si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T")

INSTALL = 'pip install "neucodex-lava[report]"'

# Okabe and Ito's colours for colour-blind readers (https://jfly.uni-koeln.de/color/), each made
# darker for a white page and lighter for a dark one: 4.5:1 or more, as text needs (grid aside).
PALETTE: dict[str, tuple[str, str, str]] = {  # stand-in: (CSS variable, light, dark)
    "#010101": ("ink", "#1f2328", "#e6e9ec"),
    "#020202": ("grid", "#d5d9de", "#3a4149"),
    "#030303": ("blue", "#0067a5", "#5cb3ef"),
    "#040404": ("orange", "#a66200", "#f0ad33"),
    "#050505": ("green", "#00805e", "#2fc79b"),
    "#060606": ("purple", "#a8497f", "#e08fbf"),
    "#070707": ("grey", "#6b737c", "#9aa3ad"),
    "#080808": ("paper", "#ffffff", "#15181c"),
}
INK, GRID, BLUE, ORANGE, GREEN, PURPLE, GREY, PAPER = PALETTE

SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "neucodex-lava",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    # A dollar sign in a name is a dollar sign.
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Plot:
    """A plot: what it shows, in a few words, and its ``<svg>`` element."""

    title: str
    svg: str


def drawn(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function in the report's matplotlib settings, leaving the caller's as they were.

    Matplotlib reads some of them when a text is made, others when it is written.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            import matplotlib as mpl
        except ImportError as error:
            raise MissingDependencyError("plots need matplotlib", INSTALL) from error
        # A glyph the measuring font lacks is still drawn by the browser.
        with mpl.rc_context(SETTINGS), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
            return function(*args, **kwargs)

    return wrapped


def figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `panels` axes side by side, sizes in inches."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(fig)
    axes = [fig.add_subplot(1, panels, i + 1) for i in range(panels)]
    for ax in axes:
        ax.grid(True, color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
        for side, spine in ax.spines.items():
            spine.set_visible(side in ("left", "bottom"))
    return fig, axes


def si_axis(axis: Axis, unit: str) -> None:
    """Label an axis's ticks with SI prefixes (``10 µJ``)."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value, unit)))


def _short(value: float, unit: str) -> str:
    text = si(value, unit)
    number, _, rest = text.partition(" ")
    trimmed = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{trimmed} {rest}".rstrip()


def render(fig: Figure, name: str, title: str, description: str) -> Plot:
    """A figure as an ``<svg>`` element, the same text for the same figure.

    Args:
        fig: made by `figure`.
        name: unique on the page; prefixes every id.
        title: its accessible name.
        description: what it shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    fig.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Inside HTML neither namespace needs declaring, so the page names no outside address at all.
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for stand_in, (variable, light, _) in PALETTE.items():
        text = text.replace(stand_in, f"var(--{variable}, {light})")
    # Its one style rule would reach beyond the figure; DejaVu is wider than what stands in for it.
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)
    text = text.replace("'DejaVu Sans'", "system-ui, sans-serif")
    head = f'<svg role="img" aria-labelledby="{name}-title {name}-description"'
    labels = (
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>'
    )
    opening, rest = text.split(">", 1)
    return Plot(title, opening.replace("<svg", head, 1) + ">" + labels + rest.strip())
