"""Request -> stream of Chunk: one file for each way of asking a model."""
