"""Commands for maintainers: endurance tests, comparisons, recordings."""
