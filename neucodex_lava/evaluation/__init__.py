"""The configurations of a bundle, evaluated: in the executor, and in Lava and over the bridge."""
