"""Write the tables of netx_exports/README.md from the manifests of the released bundles.

Released is what .gitignore lets through: a line ``!netx_exports/<family>/``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from neucodex_lava.errors import NeucodexError
from neucodex_lava.evaluation.paper.released import write_tables

ROOT = Path(__file__).parents[1]


def released(root: Path = ROOT) -> list[Path]:
    """Folders of the released families."""
    lines = (root / ".gitignore").read_text("utf-8").splitlines()
    found = (re.fullmatch(r"!(netx_exports/[^/]+)/", line.strip()) for line in lines)
    return [root / match[1] for match in found if match]


if __name__ == "__main__":
    try:
        write_tables(ROOT / "netx_exports" / "README.md", released())
    except NeucodexError as error:
        sys.exit(f"readme_tables: {error}")
