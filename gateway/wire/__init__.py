"""Dialects: pure functions from bytes to `Request` and from `Chunk` to bytes."""
