"""The cloud wing: integer networks in plain torch, without SLAYER or Lava."""
