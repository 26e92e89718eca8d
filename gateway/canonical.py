"""A request free of its dialect (`Request`), and who would answer it (`Identity`)."""

from itertools import pairwise
from typing import Any

import msgspec

from storage.entry import Kind

_OF_TOOLS = frozenset({"tool", "function"})
"""Roles that tell what a call gave back."""


class Try(msgspec.Struct, frozen=True, rename={"number": "pass"}):
    """Which try at a chunk of a text this is. Who asks so reads whatever is said, also what breaks the form that it was
    to have: it is no error, and so it is in the key.
    """

    number: int
    """Of the pass over the text, from 1 on."""
    attempt: int
    """Of that pass, from 1 on."""


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
    partition: str = ""
    """The part of its prefix cache that the engine may use, where it can be told so."""
    unsaid: frozenset[str] | None = None
    """Of a client that leaves to the model what it does not say: what it did not say and only defaults say. None for
    clients to whom the defaults are a promise.
    """
    extract: object | None = None
    """Of a chat: what is to be extracted beside its answer, a `wire.extractions.Wanted`. It changes nothing of that."""
    retrieval: object | None = None
    """Of a chat: what is to be looked for in documents before it is asked, a `wire.search.Asked`; None once it was."""
    context: tuple[bytes, ...] = ()
    """The keys of the passages that were found, as they stand in the prompt."""
    extraction: Try | None = None
    """Of an extraction: which try at a chunk of a text it is."""

    @property
    def has_more_to_it(self) -> bool:
        """Whether there is more to do than to answer it."""
        return self.extract is not None or self.retrieval is not None

    @property
    def choices(self) -> int:
        """How many choices a complete answer has."""
        prompts: Any = self.prompt.get("prompt")
        many = isinstance(prompts, list) and prompts and not isinstance(prompts[0], int)
        return int(self.params.get("n", 1)) * (len(prompts) if many else 1)

    def of(self, engine: str) -> "Request":
        """What `engine` is asked: a model of Ollama's has settings of its own (its Modelfile), which count for clients
        of Ollama's API. All other engines are told that API's documented defaults.
        """
        if engine != "ollama" or self.unsaid is None:
            return self
        params, extra = (
            {name: value for name, value in fields.items() if name not in self.unsaid}
            for fields in (self.params, self.extra)
        )
        unlimited = {} if "max_tokens" in self.unsaid else {"max_tokens": -1}  # where the model has a limit of its own
        return msgspec.structs.replace(self, params=unlimited | params, extra=extra)

    @property
    def about_tools(self) -> bool:
        """Whether it offers tools, or tells of calls and their results."""
        if self.prompt.get("tools") or self.prompt.get("tool_choice") not in (None, "auto", "none"):
            return True
        messages: list[dict[str, Any]] = self.prompt.get("messages", [])
        return any(message.get("role") in _OF_TOOLS or message.get("tool_calls") for message in messages)

    @property
    def repeats_roles(self) -> bool:
        """Whether turns of one role follow each other: for templates that want them to alternate they are made one."""
        roles: list[Any] = [message.get("role") for message in self.prompt.get("messages", [])]
        return any(one == other for one, other in pairwise(roles))


RENDERING = b"1"
"""The version of everything the gateway itself puts before a model, and of what it makes of the answer: the words for
tools, turns made one, the constraints, the reading. It is in the key of every request that these can touch."""


class Identity(msgspec.Struct, frozen=True):
    """Who answers: in the key, so that another engine or other weights never share an answer."""

    engine: str
    engine_version: str
    model_version: str


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a server tells of its model, in the words of Ollama's API; what is not known is left empty."""

    capabilities: tuple[str, ...] = ()
    """What may be asked of it: `completion`, `tools`, `vision`, `thinking`, `insert`, `embedding`."""
    details: dict[str, Any] = {}
    """`format`, `family`, `parameter_size`, `quantization_level` and their like."""
    model_info: dict[str, Any] = {}
    template: str = ""
    parameters: str = ""
    system: str = ""
    license: str | list[str] = ""
    modified_at: str = ""
    size_bytes: int = 0
    context_tokens: int = 0
    """How long a prompt and its answer may be together, where the server says it."""


class Vector(msgspec.Struct, frozen=True):
    """One embedding: little-endian float32s, and the tokens its input had."""

    values: bytes
    tokens: int
    cost_micro_usd: int = 0
    """Its share of what the call cost, in millionths of a US dollar."""
