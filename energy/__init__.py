"""What was counted, and what it costs: ledgers and device models. Needs numpy only."""
