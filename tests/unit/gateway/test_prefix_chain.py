"""The beginnings of prompts: equal as far as the prompts are, and no further."""

from typing import Any

import hypothesis
from hypothesis import strategies as st

from gateway.backends.prefix_states.chain import BLOCK_BYTES, chain, common

LONG = "word " * 1000


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    """A chat in which both sides speak in turn."""
    roles = ("system", "user", "assistant")
    return {"messages": [{"role": roles[i % 3], "content": text} for i, text in enumerate(texts)], **more}


@hypothesis.given(st.text(max_size=3000), st.text(max_size=3000), st.text(max_size=3000))
def test_prompts_share_what_they_begin_with(beginning: str, one: str, other: str) -> None:
    """At least the whole blocks of it."""
    first, second = chain({"prompt": beginning + one}), chain({"prompt": beginning + other})
    shared = common(first, second)
    assert shared >= len(beginning.encode()) // BLOCK_BYTES
    assert first[:shared] == second[:shared]
    assert first[shared : shared + 1] != second[shared : shared + 1] or shared in {len(first), len(second)}


def test_a_chat_that_goes_on_begins_with_itself() -> None:
    """The order of the fields of a message does not matter."""
    earlier = chain(chat(LONG, "hello"))
    later = chain(chat(LONG, "hello", "hi there", "and now?"))
    assert common(earlier, later) == len(earlier)
    turned = {"messages": [{"content": LONG, "role": "system"}, {"content": "hello", "role": "user"}]}
    assert chain(turned) == earlier


def test_what_comes_before_the_messages_counts() -> None:
    """Tools are rendered first, and tenants are kept apart."""
    plain = chain(chat(LONG))
    for more in ({"tools": [{"type": "function"}]}, {"cache_salt": "a"}, {"chat_template_kwargs": {"x": 1}}):
        assert common(plain, chain(chat(LONG, **more))) == 0


def test_what_cannot_be_saved_has_no_beginning() -> None:
    """Several prompts, several answers, images, and what is too short."""
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
    assert chain({"prompt": [LONG, LONG]}) == ()
    assert chain(chat(LONG, n=2)) == ()
    assert chain({"messages": [{"role": "system", "content": LONG}, image]}) == ()
    assert chain(chat("short")) == ()
    assert chain({"messages": "none"}) == ()
    assert chain({}) == ()
    assert chain({"messages": [{"role": "user", "content": [{"type": "text", "text": LONG}]}]})
