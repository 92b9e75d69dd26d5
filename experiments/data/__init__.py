"""The host's side of every task: numpy, Grain and TFDS, without JAX."""
