"""The command line: ``neucodex <verb>``. Commands parse, call one public function, and print."""

import sys

try:
    from neucodex_lava.cli.main import main
except KeyboardInterrupt:
    # Nobody is there yet to catch it: the imports take 0.3 s, time enough to regret a command.
    sys.stderr.write("neucodex: interrupted\n")
    raise SystemExit(130) from None

__all__ = ["main"]
