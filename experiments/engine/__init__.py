"""The engine: what trains, evaluates and starts any task."""
