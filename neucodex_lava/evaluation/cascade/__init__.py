"""Structural exits: a network answered at the first exit head that is sure enough (SPARQ)."""
