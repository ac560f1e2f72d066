"""Training: base networks, the bottleneck, and the quantisation-aware phase both end with."""
