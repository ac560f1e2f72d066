"""From artificial networks to spiking ones, and what artificial ones would cost instead."""

from neucodex_lava.conversion.baseline import Answers, ann_baseline
from neucodex_lava.conversion.convert import convert

__all__ = ["Answers", "ann_baseline", "convert"]
