"""Where to answer: an exit head on the edge, or the cloud; offline, and in Lava with a real link."""
