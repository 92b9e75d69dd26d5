"""The engine's parts; none of them knows a task."""
