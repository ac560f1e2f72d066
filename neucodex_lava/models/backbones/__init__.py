"""Networks to train: each a list of nodes with split points."""
