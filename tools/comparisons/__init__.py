"""The same computations here and in other software, as processes."""
