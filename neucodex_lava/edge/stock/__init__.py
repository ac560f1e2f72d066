"""The edge part in stock Lava processes: the backend `reference`, and the network for a chip."""
