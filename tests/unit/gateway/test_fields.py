"""A new typed field fails here until someone decides whether it can change the answer."""

from types import ModuleType

import pytest

from gateway import key
from gateway.wire import openai_chat, openai_completions, openai_embeddings

STRUCTURAL = frozenset({"model"})
"""In the key by itself."""

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
