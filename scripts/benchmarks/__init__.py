"""The same work here and in other software, measured."""
