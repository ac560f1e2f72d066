"""The library `constriction`, which ships no type information: its coder and its models as `Any`."""

from __future__ import annotations

import importlib
from typing import Any

_stream: Any = importlib.import_module("constriction").stream

AnsCoder: Any = _stream.stack.AnsCoder
Categorical: Any = _stream.model.Categorical
