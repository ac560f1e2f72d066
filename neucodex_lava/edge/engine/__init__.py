"""The edge part as one event-driven engine: integer kernels in Numba, delays, threads; no Lava."""
