"""StarCraft II: replays and converted records."""
