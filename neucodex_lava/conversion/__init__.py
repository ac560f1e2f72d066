"""From artificial networks to spiking ones, and what artificial ones would cost instead."""

from neucodex_lava.conversion.baseline import Answers, DynamicAnswers, ann_baseline, dynamic_ann
from neucodex_lava.conversion.convert import convert

__all__ = ["Answers", "DynamicAnswers", "ann_baseline", "convert", "dynamic_ann"]
