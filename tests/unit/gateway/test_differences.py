"""Which fields two requests differ in, and which of many kept ones is the nearest."""

import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import key
from gateway.canonical import Identity, Request
from gateway.differences import Search, nearest
from storage.entry import Query
from storage.near import Kept

NAMES = st.text('ab.[]0"', max_size=3) | st.sampled_from(
    ["model", "model_version", "engine", "engine_version", "messages", "temperature", "extra"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=3)


def asked(text: str = "Hi", version: str = "1", extra: dict[str, Any] | None = None, **params: Any) -> Query:
    """A chat request's name."""
    prompt = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]}
    request = Request(kind="chat", model="m", prompt=prompt, params=params, extra=extra or {})
    return key.query(request, "default", Identity("vllm", "1.0", version))


def differs(one: Query, *kept: Query) -> list[dict[str, Any]]:
    """What the nearest of those kept differs in."""
    found = nearest(one, [Kept(query, float(number)) for number, query in enumerate(kept)])
    assert found.looked_at == len(kept)
    assert found.nearest is not None
    return list(msgspec.to_builtins(found.nearest.differs))


def test_fields_are_named_with_both_values() -> None:
    """Parameters, unknown fields, turns, and who answers; what only one of them has has one value."""
    assert differs(asked(temperature=0.5), asked(temperature=0.7)) == [
        {"field": "temperature", "asked": 0.5, "kept": 0.7}
    ]
    assert differs(asked(seed=2**60), asked()) == [{"field": "seed", "asked": 2**60}]
    assert differs(asked(), asked(extra={"top_k": {"a": [1]}})) == [{"field": "extra.top_k.a[0]", "kept": 1}]
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
    assert nearest(asked(), []).nearest is None


def test_unknown_fields_are_apart_from_all_others() -> None:
    """Whatever their names; and names that are no names are quoted."""
    assert differs(asked(version="1"), asked(version="2", extra={"model_version": "1"})) == [
        {"field": "model_version", "asked": "1", "kept": "2"},
        {"field": "extra.model_version", "kept": "1"},
    ]
    assert differs(asked(extra={"a.b": 1}), asked(extra={"a": {"b": 1}})) == [
        {"field": 'extra["a.b"]', "asked": 1},
        {"field": "extra.a.b", "kept": 1},
    ]
    assert differs(asked(extra={"a": {}}), asked(extra={"a": {"": 0}})) == [{"field": 'extra.a[""]', "kept": 0}]


def test_what_holds_very_much_is_compared_whole() -> None:
    """And no more is shown than somebody reads: the rest is counted."""
    many = {f"f{number}": number for number in range(1000)}
    found = nearest(asked(extra=many), [Kept(asked(), 0)]).nearest
    assert found is not None
    assert (len(found.differs), found.more) == (20, 980)
    assert found.differs[0].field == "extra.f0"
    lists = [[*range(20_000)], [*range(20_001)]]
    (differs_,) = differs(asked(extra={"f": lists[0]}), asked(extra={"f": lists[1]}))
    assert (differs_["field"], differs_["whole"]) == ("extra.f", True)
    assert differs_["asked"] != differs_["kept"]
    assert len(differs_["asked"]) == len("sha256:") + 64
    near = asked(extra={"f": lists[0]}, temperature=1)
    (differs_,) = differs(asked(extra={"f": lists[0]}), near, asked(extra={"f": lists[1]}))
    assert differs_["field"] == "temperature"


def test_names_of_any_length_are_cut() -> None:
    """So that no reply is larger than somebody reads."""
    extra: Any = 0
    for _ in range(90):
        extra = {"n" * 600: extra}
    (differs_,) = differs(asked(extra=extra), asked())
    assert len(differs_["field"]) < 500


@pytest.mark.parametrize(
    "extra",
    [
        {"f": [0] * 30_000},
        {f"f{number}": 0 for number in range(6000)},
        {"f": [[0] * 500] * 50},
        {"f": [["x"]] * 10_000},
        {"f": ["ab" * 20] * 1500},
        {"f": "x" * 60_000},
    ],
    ids=["a list", "names", "lists", "nested", "texts", "a text"],
)
def test_many_large_candidates_cost_no_more_than_some(extra: dict[str, Any]) -> None:
    """Counted in calls, which take the same everywhere."""
    one = asked(extra=extra)
    other = asked(extra=extra | {"g": 1})
    kept = [Kept(other, float(number)) for number in range(600)]
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        found = nearest(one, kept)
    finally:
        sys.setprofile(None)
    assert found.nearest is not None
    assert 0 < found.looked_at <= 600
    assert calls < 1_000_000


@pytest.mark.parametrize(
    "params",
    ["", "{", "[]", "{}", '{"known":[],"extra":{}}', '{"known":{},"extra":{"f":"\\ud800"}}', "[" * 5000 + "]" * 5000],
)
def test_a_row_that_somebody_has_changed_is_passed_over(params: str) -> None:
    """The others are looked at all the same; nor is a seed that is none a reason to fail."""
    damaged = msgspec.structs.replace(asked(temperature=1), params=params)
    assert nearest(asked(), [Kept(damaged, 0)]) == Search(None, 0)
    found = nearest(asked(), [Kept(damaged, 1), Kept(asked("Ho"), 0)])
    assert found.nearest is not None
    assert found.looked_at == 1
    strange = msgspec.structs.replace(asked(), params='{"extra":{},"known":{"seed":"x"}}')
    assert differs(asked(), strange) == [{"field": "seed", "kept": "x"}]


@given(OBJECTS, OBJECTS)
def test_different_keys_differ_somewhere_and_equal_ones_nowhere(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Whatever the values and names: no difference that makes a miss goes without a name, and no two have the same."""
    first, second = asked(extra=one), asked(extra=other)
    found = differs(first, second)
    assert bool(found) == (first.key != second.key)
    assert len({each["field"] for each in found}) == len(found)
