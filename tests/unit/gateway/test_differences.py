"""Which fields two requests differ in, and which of many kept ones is the nearest."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway import key
from gateway.canonical import Identity, Request
from gateway.differences import nearest
from storage.entry import Query
from storage.near import Kept

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=2), below, max_size=3),
    max_leaves=6,
)


def asked(text: str = "Hi", version: str = "1", extra: dict[str, Any] | None = None, **params: Any) -> Query:
    """A chat request's name."""
    prompt = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]}
    request = Request(kind="chat", model="m", prompt=prompt, params=params, extra=extra or {})
    return key.query(request, "default", Identity("vllm", "1.0", version))


def differs(one: Query, *kept: Query) -> list[dict[str, Any]]:
    """What the nearest of those kept differs in."""
    found = nearest(one, [Kept(query, float(number)) for number, query in enumerate(kept)])
    assert found is not None
    return list(msgspec.to_builtins(found.differs))


def test_fields_are_named_with_both_values() -> None:
    """Parameters, unknown fields, turns, and who answers; what only one of them has has one value."""
    assert differs(asked(temperature=0.5), asked(temperature=0.7)) == [
        {"field": "temperature", "asked": 0.5, "kept": 0.7}
    ]
    assert differs(asked(seed=2**60), asked()) == [{"field": "seed", "asked": 2**60}]
    assert differs(asked(), asked(extra={"top_k": {"a": [1]}})) == [{"field": "top_k.a[0]", "kept": 1}]
    assert differs(asked("Hi "), asked("Hi")) == [{"field": "messages[1].content", "asked": "Hi ", "kept": "Hi"}]
    assert differs(asked(), asked(version="2")) == [{"field": "model_version", "asked": "1", "kept": "2"}]
    assert differs(asked(stop="1"), asked(stop=1)) == [{"field": "stop", "asked": "1", "kept": 1}]
    assert differs(asked(x=True), asked(x=1)) == [{"field": "x", "asked": True, "kept": 1}]


def test_long_texts_are_shown_where_they_part() -> None:
    """With what is around it, and at which character."""
    (found,) = differs(asked("a" * 5000 + "b" + "c" * 5000), asked("a" * 5000 + "B" + "c" * 5000))
    assert found["at"] == 5000
    assert found["asked"] == "a" * 30 + "b" + "c" * 29
    assert found["kept"] == "a" * 30 + "B" + "c" * 29


def test_the_nearest_differs_in_fewest_fields_then_in_least_of_its_texts_then_is_the_latest() -> None:
    """In that order."""
    one = asked("What is the capital of France?", seed=1, temperature=0)
    two_fields = asked("What is the capital of France?", seed=2, temperature=1)
    other_text = asked("Write a poem about rain.", seed=1, temperature=0)
    near_text = asked("What is the capital of Frence?", seed=1, temperature=0)
    (found,) = differs(one, near_text, other_text, two_fields)
    assert found["kept"] == "What is the capital of Frence?"
    assert {each["field"] for each in differs(one, two_fields)} == {"seed", "temperature"}
    (latest,) = differs(
        one,
        asked("What is the capital of France?", seed=1, temperature=5),
        asked("What is the capital of France?", seed=1, temperature=6),
    )
    assert latest["kept"] == 6


def test_nothing_kept_has_no_nearest() -> None:
    """Rather than a made-up one."""
    assert nearest(asked(), []) is None


@given(JSON, JSON)
def test_different_keys_differ_somewhere_and_equal_ones_nowhere(one: Any, other: Any) -> None:
    """Whatever the values: no difference that makes a miss goes without a name."""
    first, second = asked(extra={"f": one}), asked(extra={"f": other})
    assert bool(differs(first, second)) == (first.key != second.key)
