"""The engine: trains and evaluates any task."""
