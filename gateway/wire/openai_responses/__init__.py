"""OpenAI's `/v1/responses`: bytes -> the same `Request` that a chat completion is, and Chunks -> typed events."""
