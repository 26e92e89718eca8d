"""Texts -> vectors: each input is a question of its own, and what is missing is asked for in one call."""
