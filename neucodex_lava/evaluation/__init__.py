"""The configurations of a bundle, evaluated: in the executor, and for real in Lava and over the bridge."""
