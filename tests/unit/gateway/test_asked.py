"""What a prompt asks in words, and what everything else is called."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import key
from gateway.canonical import Identity, Request
from gateway.semantic.asked import asked
from storage.entry import Query

IDENTITY = Identity("vllm", "1", "w")
QUESTION: dict[str, Any] = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "How old?"}]}


def named(prompt: dict[str, Any], *, scope: str = "a", model: str = "m", **params: Any) -> Query:
    """The name of a question."""
    kind = "chat" if "messages" in prompt else "completion"
    return key.query(Request(kind=kind, model=model, prompt=prompt, params=params, extra={}), scope, IDENTITY)


def chat(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    """A conversation."""
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


@given(st.text(), st.text())
def test_only_the_last_words_are_left_out(one: str, other: str) -> None:
    """Whatever they are, all else is called the same."""
    names = [asked(named(chat(("user", "a"), ("assistant", "b"), ("user", text)))) for text in (f"x{one}", f"x{other}")]
    assert names[0].context == names[1].context is not None
    assert names[0].text == f"x{one}".strip()


@pytest.mark.parametrize(
    "other",
    [
        named(QUESTION, scope="b"),
        named(QUESTION, model="n"),
        named(QUESTION, temperature=0),
        named({**QUESTION, "tools": [{"type": "function", "function": {"name": "f"}}]}),
        named({**QUESTION, "response_format": {"type": "json_object"}}),
        named(chat(("system", "t"), ("user", "How old?"))),
        named(chat(("user", "How old?"))),
        named(chat(("system", "s"), ("user", "x"), ("assistant", "y"), ("user", "How old?"))),
        named({"prompt": "How old?"}),
        msgspec.structs.replace(named(QUESTION), engine_version="2"),
        msgspec.structs.replace(named(QUESTION), engine="ollama"),
        msgspec.structs.replace(named(QUESTION), model_version="v"),
    ],
    ids=lambda query: query.params[:20],
)
def test_everything_else_counts(other: Query) -> None:
    """Whose it is, who answers, how, and what was said before."""
    assert asked(other).text == "How old?"
    assert asked(other).context not in (None, asked(named(QUESTION)).context)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (chat(("user", [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}])), "a"),
        (chat(("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])), "a\nb"),
        (chat(("user", "a"), ("assistant", "b"), ("tool", "c"), ("user", "d")), "d"),
        (chat(("user", "a"), ("assistant", "b")), "a"),
        (chat(("system", "a")), ""),
        (chat(("user", "  ")), ""),
        ({"prompt": [1, 2, 3]}, ""),
    ],
)
def test_where_words_are_not_all(prompt: dict[str, Any], text: str) -> None:
    """Images, results of tools, answers that were begun, token ids: nothing else is to be answered alike."""
    found = asked(named(prompt))
    assert (found.text, found.context) == (text, None)
