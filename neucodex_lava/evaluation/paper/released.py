"""The tables of ``netx_exports/README.md``, from the manifests of the released bundles."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from neucodex_lava.bundle import Bundle
from neucodex_lava.errors import BundleError
from neucodex_lava.evaluation.paper.families import Cell, Family, find_families, recorded_family
from neucodex_lava.evaluation.paper.figures import table1
from neucodex_lava.evaluation.paper.render import NAMES, shown
from neucodex_lava.evaluation.paper.sheet import markdown_rows
from neucodex_lava.evaluation.paper.table1 import grouped
from neucodex_lava.files import replacing
from neucodex_lava.report.si import DASH, count, interval, percent, si

BEGIN = "<!-- tables: made from the manifests by scripts/readme_tables.py -->"
END = "<!-- end of tables -->"
HEAD = (
    "bundle", "code, bits per timestep", "accuracy, fixed (F)", "accuracy, dynamic (D)", "mean T (D)",
    "edge SynOps (D)", "edge energy (D)", "float accuracy", "SLAYER = executor", "seed", "size",
)  # fmt: skip


def tables(folders: Iterable[Path]) -> str:
    """One section for each family, and one for each network in several seeds, as Markdown.

    Args:
        folders: of the families.

    Raises:
        BundleError: a folder is no family, or a bundle is damaged.
    """
    families = [family for folder in folders for family in find_families(folder)]
    lines = [line for family in families for line in _section(family)]
    for group in grouped(((f, recorded_family(f)) for f in families), table1()):
        if len(group.seeds) > 1:
            lines += [f"## Over seeds: {group.title}", "", *markdown_rows(NAMES, shown(group)), ""]
    return "\n".join(lines)


def write_tables(readme: Path, folders: Iterable[Path]) -> None:
    """Put the tables between the two marks of a README.

    Raises:
        BundleError: the marks are not there; and as `tables`.
    """
    text = readme.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BundleError(f"'{readme}' lacks '{BEGIN}' or '{END}'", "put both lines back")
    made = f"{before}{BEGIN}\n\n{tables(folders)}\n{END}{after}"
    with replacing(readme) as file:
        file.write(made.encode())


def _section(family: Family) -> list[str]:
    manifest = family.base.manifest
    cells = {(c.split, c.configuration): c for c in recorded_family(family)}
    bundles = [family.base, *family.splits]
    what = f"{manifest.architecture} on {manifest.dataset}"
    lines = [
        f"## `{family.folder.name}/`",
        "",
        f"{what}, {family.coding} input, T_max {manifest.t_max}.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "| --- " * len(HEAD) + "|",
        *(_row(bundle, cells) for bundle in bundles),
        "",
    ]
    sources = dict.fromkeys(c.source for c in cells.values())
    lines += [f"* {source}" for source in sources]
    lines += ["", "```text", *_commands(bundles), "```", ""]
    return lines


def _row(bundle: Bundle, cells: dict[tuple[str | None, str], Cell]) -> str:
    manifest = bundle.manifest
    end = "+B" if manifest.split else "-B"
    fixed, dynamic = (cells.get((manifest.split, f"{letter}{end}")) for letter in "FD")
    papers = manifest.training or {}
    shown = (
        f"`{bundle.path.name}`" + ("" if manifest.split else " (edge-only)"),
        _code(bundle),
        _accuracy(fixed),
        _accuracy(dynamic),
        DASH
        if dynamic is None or dynamic.mean_timesteps is None
        else f"{dynamic.mean_timesteps:.2f}",
        DASH if dynamic is None else _work(dynamic),
        DASH if dynamic is None else si(dynamic.energy_j, "J"),
        DASH if papers.get("float_accuracy") is None else percent(papers["float_accuracy"], 2),
        _slayer(bundle),
        str(manifest.seed),
        f"{folder_bytes(bundle.path) / 1e6:.1f} MB",
    )
    return "| " + " | ".join(shown) + " |"


def _code(bundle: Bundle) -> str:
    if bundle.manifest.split is None:
        return DASH
    c, h, w = bundle.manifest.code_shape
    return f"{c}x{h}x{w} = {c * h * w}"


def _accuracy(cell: Cell | None) -> str:
    if cell is None:
        return DASH
    return f"{percent(cell.accuracy, 2)} ({interval(*cell.accuracy_interval)})"


def _work(cell: Cell) -> str:
    return f"{count(cell.syn_ops)} + {count(cell.macs)} MACs" if cell.macs else count(cell.syn_ops)


def _slayer(bundle: Bundle) -> str:
    found = (bundle.manifest.measured or {}).get("slayer")
    return f"{found['samples']:,} samples" if found else DASH


def _commands(bundles: Iterable[Bundle]) -> list[str]:
    """Every command once, in the order in which they were given."""
    found: dict[str, None] = {}
    for bundle in bundles:
        papers = bundle.manifest.training
        found |= dict.fromkeys(papers["commands"] if papers else [bundle.manifest.command])
    return list(found)


def folder_bytes(folder: Path) -> int:
    """Size of a bundle's files."""
    return sum(path.stat().st_size for path in folder.iterdir())
