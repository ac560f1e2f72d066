"""Keep what an evaluation measured in the manifests of the bundles it measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neucodex_lava.bundle import Bundle, amend
from neucodex_lava.bundle.paperwork import now
from neucodex_lava.report.results import Results, Row


def record_table(results: Results, bundles: Sequence[Bundle]) -> list[Bundle]:
    """Write each bundle's rows into its manifest, without curves and counts per layer.

    A base gets what runs without a bottleneck; a split bundle all rows of its split point, and those
    of the uncut network beside them. What else was measured of a bundle stays.

    Args:
        results: of an evaluation of these bundles on their own dataset.
        bundles: a base, its split bundles, or both.

    Returns:
        The bundles as amended.

    Raises:
        BundleError: a manifest cannot be written.
    """
    amended: list[Bundle] = []
    for bundle in bundles:
        rows = [replace(row, layers=[]) for row in results.rows if _belongs(row, bundle)]
        table = replace(results, rows=rows, curves=[], report=None).to_dict()
        before = bundle.manifest.measured or {}
        amended.append(amend(bundle, measured={**before, "date": now(), "table": table}))
    return amended


def _belongs(row: Row, bundle: Bundle) -> bool:
    if bundle.manifest.kind == "base":
        return not row.configuration.endswith("+B")
    return row.split in (None, bundle.manifest.split)
