"""What `scripts.benchmark` and `scripts.describe` measure and estimate."""
