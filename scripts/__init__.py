"""For people: preparing data, measuring, looking."""
