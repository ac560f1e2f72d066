"""The two seconds in which everything that fails must have ended, on a machine that works besides.

Tests run beside each other: workers that start Lava and torch stretch any wall time. The bound is
therefore scaled by how many processes want each core, and is 2 s on a free machine.
"""

import os

FAULT_S = 2.0


def fault_s() -> float:
    """Seconds after which a fault must have ended what it hit."""
    running = os.getloadavg()[0] / (os.cpu_count() or 1)
    return FAULT_S * max(1.0, running)
