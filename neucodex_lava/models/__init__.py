"""The training wing: differentiable networks of SLAYER blocks."""
