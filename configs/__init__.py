"""Numbers of every experiment; a config file never computes."""
