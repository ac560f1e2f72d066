"""Numbers as people read them: SI prefixes, thousands, shares."""

from __future__ import annotations

import math

DASH = "–"
_PREFIXES = ("a", "f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E")
_UNIT_PLACE = 6


def si(value: float | None, unit: str, digits: int = 3) -> str:
    """A quantity with an SI prefix and `digits` significant digits: ``8.12 µJ``; a dash for None."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return f"0 {unit}".rstrip()
    # Rounding first, so that 999.9 becomes 1.00 k and not 1000.
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    if int(power) < -3 * _UNIT_PLACE:
        return f"{value:.{digits - 1}e} {unit}".rstrip()
    place = min(int(power) // 3, len(_PREFIXES) - 1 - _UNIT_PLACE)
    decimals = max(digits - 1 - (int(power) - 3 * place), 0)
    scaled = float(mantissa) * 10.0 ** (int(power) - 3 * place)
    return f"{scaled:.{decimals}f} {_PREFIXES[place + _UNIT_PLACE]}{unit}".rstrip()


def count(value: float | None) -> str:
    """A mean count: ``2.50``, ``131,072``, ``1.23 M``."""
    if value is None or not math.isfinite(value):
        return DASH
    if value >= 999_999.5:
        return si(value, "")
    if value < 100 and value != round(value):
        return f"{value:.2f}" if value < 10 else f"{value:.1f}"
    return f"{value:,.0f}"


def percent(share: float, decimals: int = 1) -> str:
    """A share of one as ``97.8 %``."""
    return f"{100 * share:.{decimals}f} %"


def interval(low: float, high: float) -> str:
    """A confidence interval of a share, in per cent: ``95.7–98.9``."""
    return f"{100 * low:.1f}–{100 * high:.1f}"


def change(factor: float | None) -> str:
    """A ratio to a baseline as a signed change: 0.36 is ``−64.0 %``."""
    if factor is None or not math.isfinite(factor):
        return DASH
    if factor >= 10:
        return f"×{factor:,.0f}"
    return f"{100 * (factor - 1):+.1f} %".replace("-", "−")


def times(factor: float) -> str:
    """A factor without its sign: ``2.79``, ``37.6``, ``1,365``."""
    decimals = 2 if factor < 10 else 1 if factor < 100 else 0
    return f"{factor:,.{decimals}f}"
