"""Data of every task on the host: numpy, Grain and TFDS, without JAX."""
