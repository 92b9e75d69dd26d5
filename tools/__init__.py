"""What maintainers run: soak tests and recordings of other code."""
