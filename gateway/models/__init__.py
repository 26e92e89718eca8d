"""What a model is called comes in; a GGUF file, its name and its digest go out."""
