"""The papers' tables from our own bundles, theirs beside them."""
