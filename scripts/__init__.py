"""For people: preparing data, measuring, looking."""

import experiments  # noqa: F401  It says what has to be installed.
