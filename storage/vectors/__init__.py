"""Vectors of what is kept: which model they are of, what waits for one, and how far that has come."""
