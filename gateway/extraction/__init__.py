"""Texts -> records: what is asked about each chunk, what comes of it, and where that is kept."""
