"""A prompt in; out come the words of its last turn, and a name of everything else that an answer depends on.

Two prompts whose names are equal differ in these words alone: earlier turns, system prompts, tools, schemas,
parameters, model, engine and whose they are are all in the name.
"""

from typing import Any, Final, Protocol

import msgspec

from gateway import jcs, key
from gateway.canonical import RENDERING

_VERSION: Final = key.VERSION + b" rendering/" + RENDERING + b" asked/1"
"""What the gateway itself has to do with what is asked and answered is part of it, as of keys."""
_RESULTS: Final = frozenset({"tool", "function"})


class Named(Protocol):
    """What the key of a completion is made of: a `Query`, or a row."""

    @property
    def scope(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def model_version(self) -> str: ...
    @property
    def engine(self) -> str: ...
    @property
    def engine_version(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def params(self) -> str: ...


class Asked(msgspec.Struct, frozen=True):
    """The words of a prompt's last turn."""

    text: str
    context: bytes | None
    """sha256 of everything else; None where that is more than can be compared: images, results of tools."""


def asked(named: Named) -> Asked:
    """What a prompt asks. A prompt of token ids, or without any words, asks nothing: its text is empty."""
    prompt: dict[str, Any] = msgspec.json.decode(named.prompt)
    text, rest = _chat(prompt) if "messages" in prompt else _plain(prompt)
    return Asked(text.strip(), _context(named, rest) if rest is not None and text.strip() else None)


def _plain(prompt: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    said = prompt.get("prompt")
    return (said, {**prompt, "prompt": None}) if isinstance(said, str) else ("", None)


def _chat(prompt: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """The last words of a user's; and the rest, if they stand alone in the last turn and no tool has had its say."""
    messages: list[dict[str, Any]] = prompt["messages"]
    turn = next((message for message in reversed(messages) if message.get("role") == "user"), None)
    if turn is None:
        return "", None
    text, alone = _words(turn.get("content"))
    if not alone or turn is not messages[-1] or any(message.get("role") in _RESULTS for message in messages):
        return text, None
    return text, {**prompt, "messages": [*messages[:-1], {**turn, "content": None}]}


def _words(content: Any) -> tuple[str, bool]:
    """What a turn says, and whether that is all that is in it."""
    if isinstance(content, str):
        return content, True
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return "\n".join(texts), len(parts) == len(texts) == 1


def _context(named: Named, rest: dict[str, Any]) -> bytes:
    identity = (named.scope, named.kind, named.model, named.model_version, named.engine, named.engine_version)
    return key.digest([_VERSION, *(part.encode() for part in identity), jcs.dumps(rest), named.params.encode()])
