"""neucodex-lava: split a spiking network between a neuromorphic edge chip and the cloud."""

__version__ = "0.1.0"
