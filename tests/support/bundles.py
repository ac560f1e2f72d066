"""Change a copied bundle as an attacker or an accident would. Tests only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def reseal(bundle: Path, **changes: object) -> None:
    """Write the manifest again with these fields, and the files' sha256 as they now are."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    for name in manifest["files"]:
        if (bundle / name).is_file():
            manifest["files"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))
