"""The error that conversion of a model folder raises."""


class ConversionError(ValueError):
    """A model folder that cannot become a GGUF; the text says why and what would help."""
