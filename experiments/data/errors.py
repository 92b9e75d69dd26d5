"""The errors of everything that reads and prepares data."""


class DataError(ValueError):
  """Something in the data or in a file that a person can mend.

  One line, which names the file. Commands end with that line and no more.
  """
