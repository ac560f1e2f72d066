"""The edge wing: Lava and numpy, never torch."""
