"""SLAYER, imported once and quietly: its package prints to stdout when some demo data is missing,
and stdout belongs to the results.
"""

from __future__ import annotations

import contextlib
import io

from neucodex_lava.errors import MissingDependencyError

try:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from lava.lib.dl.slayer import synapse
        from lava.lib.dl.slayer.block import cuba as block
        from lava.lib.dl.slayer.neuron import cuba, norm
        from lava.lib.dl.slayer.utils.time import shift
except ImportError as missing:
    raise MissingDependencyError(
        f"training needs lava-dl's SLAYER, which could not be imported: {missing}",
        "install the extra 'train' on Python 3.10: pip install 'neucodex-lava[train]'",
    ) from missing

__all__ = ["block", "cuba", "norm", "shift", "synapse"]
