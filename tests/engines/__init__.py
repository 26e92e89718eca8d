"""The inference engines that the tests talk to: vLLM and llama.cpp for real, Ollama's API over llama.cpp."""
