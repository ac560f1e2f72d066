"""Lava's processes kept in hand: they never hang, never leak, and share memory with the parent."""
