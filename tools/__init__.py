"""What maintainers run: soak tests, other code compared and recorded."""
