"""A new typed field fails here until someone decides whether it can change the answer."""

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from gateway import key
from gateway.canonical import Identity, Request
from gateway.errors import InvalidRequest
from gateway.wire import ollama, openai_chat, openai_completions, openai_embeddings

STRUCTURAL = frozenset({"model", "retrieval"})
"""In the key by itself, or by what is found for it."""

SHAPES = {
    openai_chat: openai_chat.ChatBody,
    openai_completions: openai_completions.CompletionBody,
    openai_embeddings: openai_embeddings.EmbeddingBody,
}


@pytest.mark.parametrize("wire", SHAPES, ids=lambda wire: wire.__name__)
def test_every_typed_field_is_decided_exactly_once(wire: ModuleType) -> None:
    """Part of the prompt, a parameter, neutral, or structural; never two of them, never none."""
    for field in SHAPES[wire].__struct_encode_fields__:
        places = [
            name
            for name, fields in (
                ("prompt", wire.PROMPT),
                ("params", wire.PARAMS),
                ("neutral", key.NEUTRAL),
                ("structural", STRUCTURAL),
            )
            if field in fields
        ]
        assert len(places) == 1, f"{wire.__name__}: '{field}' is in {places or 'none of the lists'}"


@pytest.mark.parametrize("wire", SHAPES, ids=lambda wire: wire.__name__)
def test_only_typed_fields_are_listed(wire: ModuleType) -> None:
    """A listed field that is not typed would reach the key unchecked."""
    assert set(SHAPES[wire].__struct_encode_fields__) >= wire.PROMPT | wire.PARAMS


SAID: dict[str, Any] = {
    "stream": False,
    "options": {"temperature": 0.1},
    "format": "json",
    "keep_alive": "9m",
    "think": "low",
    "logprobs": True,
    "top_logprobs": 3,
    "messages": [{"role": "user", "content": "other"}],
    "tools": [{"type": "function"}],
    "prompt": "other",
    "suffix": "end",
    "system": "other",
    "images": ["iVBOR"],
    "raw": True,
    "template": "other",
    "context": [1],
    "input": "other",
    "dimensions": 3,
    "truncate": False,
}
"""A value of each typed field of Ollama's endpoints that is neither its default nor that of `PLAIN`."""

PLAIN: dict[Any, tuple[Callable[[bytes], Any], dict[str, Any]]] = {
    ollama.ChatBody: (
        ollama.decode_chat,
        {"messages": [{"role": "user", "content": "a"}], "logprobs": True, "top_logprobs": 1},
    ),
    ollama.GenerateBody: (ollama.decode_generate, {"prompt": "a", "logprobs": True, "top_logprobs": 1}),
    ollama.EmbedBody: (ollama.decode_embed, {"input": "a" * 201}),
    ollama.LegacyEmbedBody: (ollama.decode_embeddings, {"prompt": "a"}),
}


@pytest.mark.parametrize("shape", PLAIN, ids=lambda shape: shape.__name__)
def test_every_typed_field_of_ollamas_counts_or_is_neutral_or_refused(shape: Any) -> None:
    """They become OpenAI's fields, so that only the key can tell."""
    for field in set(shape.__struct_encode_fields__) - STRUCTURAL:
        plain = PLAIN[shape][1] | ({"logprobs": False} if field == "logprobs" else {})
        said = SAID[field] if field in SAID else pytest.fail(f"{shape.__name__}: '{field}' has no value in SAID")
        same = named(shape, plain) == named(shape, plain | {field: said})
        assert same == (field in key.NEUTRAL), f"{shape.__name__}: '{field}'"


@pytest.mark.parametrize("shape", PLAIN, ids=lambda shape: shape.__name__)
def test_an_unknown_field_of_ollamas_counts(shape: Any) -> None:
    """As everywhere."""
    assert named(shape, PLAIN[shape][1]) != named(shape, PLAIN[shape][1] | {"x": 1})


def named(shape: Any, fields: dict[str, Any]) -> bytes | str | None:
    """The key of a body, or the field that is refused."""
    decode = PLAIN[shape][0]
    try:
        found = decode(json.dumps({"model": "m", **fields}).encode())
    except InvalidRequest as refused:
        return refused.param
    request: Request = found[0] if isinstance(found, tuple) else found
    return key.query(request, "s", Identity("e", "1", "w")).key
