"""Commands for users: prepare data, predict, measure, report."""
