"""The command line: ``neucodex <verb>``. Commands parse, call one public function, and print."""

from neucodex_lava.cli.main import main

__all__ = ["main"]
