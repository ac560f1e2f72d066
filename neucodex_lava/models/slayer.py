"""SLAYER, imported once, quietly and without its object detection.

Its package prints to stdout when some demo data is missing, and stdout belongs to the results. Its
object detection alone imports torchvision's models and with them torch's compiler: more than half of
the time that all of SLAYER takes.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from types import ModuleType
from typing import Any, Final

from neucodex_lava.errors import MissingDependencyError

_LATER: Final = "lava.lib.dl.slayer.object_detection"


def _put_off() -> None:
    """Have SLAYER's object detection imported by whoever first uses it."""

    def load(attribute: str) -> Any:
        # `inspect` asks every module there is for its file, and the like.
        if attribute.startswith("__") and attribute != "__path__":
            raise AttributeError(attribute)
        if sys.modules.get(_LATER) is later:
            del sys.modules[_LATER]
            # Also binds it in its package, under the name that the import system gives it.
            sys.modules["lava.lib.dl.slayer"].__dict__["obd"] = importlib.import_module(_LATER)
        return getattr(sys.modules[_LATER], attribute)

    if _LATER not in sys.modules:
        later = ModuleType(_LATER)
        later.__dict__["__getattr__"] = load
        sys.modules[_LATER] = later


_put_off()
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
