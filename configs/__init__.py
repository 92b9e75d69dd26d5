"""Settings of every experiment; config files do not compute."""
