"""The cloud's end of the bridge: sessions over gRPC, batched onto one tail a bundle."""
