"""A request free of its dialect (`Request`), and who would answer it (`Identity`)."""

from typing import Any

import msgspec

from storage.entry import Kind


class Request(msgspec.Struct, frozen=True):
    """One question: what the model reads, how it shall answer, and how the client wants the reply sent."""

    kind: Kind
    model: str
    prompt: dict[str, Any]
    """What the model reads: `messages`, `prompt` or `input`, with `tools`, `response_format` and their like."""
    params: dict[str, Any]
    """Known parameters in OpenAI's names, defaults filled in, aliases folded."""
    extra: dict[str, Any]
    """Every field not known, untouched."""
    stream: bool = False
    include_usage: bool = False
    size_bytes: int = 0
    """How large it was on the wire: what naming it will cost."""
    cold: bool = False
    """The engine shall compute all of the prompt, and use nothing of its prefix cache, where it can be told so."""

    @property
    def choices(self) -> int:
        """How many choices a complete answer has."""
        prompts: Any = self.prompt.get("prompt")
        many = isinstance(prompts, list) and prompts and not isinstance(prompts[0], int)
        return int(self.params.get("n", 1)) * (len(prompts) if many else 1)


class Identity(msgspec.Struct, frozen=True):
    """Who answers: in the key, so that another engine or other weights never share an answer."""

    engine: str
    engine_version: str
    model_version: str


class Vector(msgspec.Struct, frozen=True):
    """One embedding: little-endian float32s, and the tokens its input had."""

    values: bytes
    tokens: int
    cost_micro_usd: int = 0
    """Its share of what the call cost, in millionths of a US dollar."""
