"""What is run: tasks, and the engine that trains and evaluates them."""
