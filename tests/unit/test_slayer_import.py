"""SLAYER is imported without its object detection, which is there for whoever asks for it."""

import subprocess
import sys

LIGHT = """
import sys
from neucodex_lava.models import slayer
assert "torchvision" not in sys.modules and "torch._dynamo" not in sys.modules
import lava.lib.dl.slayer as whole
assert whole.block.cuba is slayer.block
"""
BY_NAME = """
assert callable(whole.obd.boundingbox.utils.nms)
assert sys.modules["lava.lib.dl.slayer.object_detection"] is whole.obd is whole.object_detection
"""
BY_IMPORT = """
from lava.lib.dl.slayer.object_detection.boundingbox.utils import nms
from lava.lib.dl.slayer import obd
assert obd.boundingbox.utils.nms is nms
"""


def _run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_object_detection_is_imported_when_it_is_named() -> None:
    _run(LIGHT + BY_NAME)


def test_object_detection_is_imported_when_it_is_imported() -> None:
    _run(LIGHT + BY_IMPORT)
