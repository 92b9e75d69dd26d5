"""The same work here and in other software, in processes of their own."""
