"""Calls written in a text are found however the text was cut, and what is no call is text or an error."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.backends.tools.reading import CLOSE, OPEN, Argued, Listed, Named, Piece, Reader, Tagged
from gateway.errors import UnfitAnswer

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["<", "<tool", "<tool_call", "</tool_call>", " \n", "{", '"', "\\", "é漢😀", "<<tool_call", "a < b"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.tuples(st.sampled_from(["f", "get_weather", 'odd "name"', "é"]), st.dictionaries(WORDS, VALUES, max_size=3))
CUTS = st.lists(st.integers(0, 400), max_size=40)
SPACES = st.sampled_from(["", " ", "\n", "\n\t "])
Found = tuple[str, list[tuple[str, Any]]]


def written(call: tuple[str, Any], indent: int | None = None, *, ascii_only: bool = False) -> str:
    """A call as a model writes it."""
    name, arguments = call
    return json.dumps({"name": name, "arguments": arguments}, indent=indent, ensure_ascii=ascii_only)


def cut(text: str, places: Sequence[int]) -> list[str]:
    """`text` in pieces."""
    edges = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def pieces(reader: Reader, texts: Sequence[str], *, is_cut: bool = False) -> list[Piece]:
    """Everything that is found."""
    return [*(piece for text in texts for piece in reader.feed(text)), *reader.end(cut=is_cut)]


def found(reader: Reader, texts: Sequence[str], *, is_cut: bool = False) -> Found:
    """The text, and the calls with their arguments read."""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    said = ""
    for piece in pieces(reader, texts, is_cut=is_cut):
        match piece:
            case Named(place, name):
                assert place == len(names), "calls are named in order, and once"
                names[place] = name
            case Argued(place, text):
                assert place in names, "a name comes before its arguments"
                arguments[place] = arguments.get(place, "") + text
            case str(text):
                said += text
    return said, [(name, json.loads(arguments.get(place, "{}"))) for place, name in names.items()]


@example("", [("", ("f", {}), "0\x1f")], [], None, False)  # white space to Python, and not to JSON
@given(WORDS, st.lists(st.tuples(SPACES, CALLS, WORDS), max_size=3), CUTS, st.sampled_from([None, 2]), st.booleans())
def test_any_cut_gives_the_same_calls(
    start: str, rest: Sequence[tuple[str, Any, str]], cuts: Sequence[int], indent: int | None, ascii_only: bool
) -> None:
    """And the same text; one character at a time too."""
    calls = (
        f"{OPEN}{space}{written(call, indent, ascii_only=ascii_only)}{space}{CLOSE}{after}"
        for space, call, after in rest
    )
    text = start + "".join(calls)
    whole = found(Tagged(), [text])
    assert found(Tagged(), cut(text, cuts)) == whole
    assert found(Tagged(), list(text)) == whole
    assert whole[1] == [call for _, call, _ in rest]
    if not rest:
        assert whole[0] == start, "a text without calls is left exactly as it is"


@given(st.lists(CALLS, min_size=1, max_size=4), CUTS, st.sampled_from([None, 1]), SPACES)
def test_a_list_is_read_however_it_is_cut(
    calls: Sequence[Any], cuts: Sequence[int], indent: int | None, space: str
) -> None:
    """Compact or with white space in every gap."""
    text = f"{space}[{space}{f'{space},{space}'.join(written(call, indent) for call in calls)}{space}]{space}"
    assert found(Listed(), cut(text, cuts)) == ("", list(calls))
    assert found(Listed(), list(text)) == ("", list(calls))


@given(WORDS, WORDS, CUTS)
def test_text_around_calls_keeps_its_words(before: str, after: str, cuts: Sequence[int]) -> None:
    """Only white space beside the calls goes."""
    said, calls = found(Tagged(), cut(f"{before}\n{OPEN}{written(('f', {}))}{CLOSE}\n{after}", cuts))
    if OPEN not in before + after:
        assert calls == [("f", {})]
        assert said.split() == (before.rstrip(" \t\r\n") + "\n" + after).split()


@pytest.mark.parametrize("text", [OPEN, f"{OPEN} is a tag", f"write {OPEN}, then JSON", "<tool", f"x {OPEN} "])
def test_a_tag_that_no_object_follows_is_text(text: str) -> None:
    """A model may speak about tags."""
    assert found(Tagged(), [text]) == (text, [])
    assert found(Tagged(), list(text)) == (text, [])


def test_arguments_come_as_they_are_written() -> None:
    """The name first, then each piece: nothing waits for the end of the call."""
    reader = Tagged()
    assert reader.feed(f'Hm. {OPEN}{{"name": "f", "argu') == ["Hm.", Named(0, "f")]
    assert reader.feed('ments": {"a": ') == [Argued(0, '{"a": ')]
    assert reader.feed('"}') == [Argued(0, '"}')]
    assert reader.feed('"}}') == [Argued(0, '"}')]
    assert reader.feed(CLOSE) == []


@pytest.mark.parametrize("member", ["arguments", "parameters"])
def test_a_name_may_come_last(member: str) -> None:
    """Then the arguments wait for it."""
    call = f'{{"{member}": {{"a": 1}}, "id": 5, "name": "f"}}'
    assert found(Tagged(), list(OPEN + call)) == ("", [("f", {"a": 1})])


BROKEN = {
    "cut off": '{"name": "f", "arguments": {"a": ',
    "no name": '{"arguments": {}}',
    "a name that is a number": '{"name": 5}',
    "half a character": '{"name": "\\ud800"}',
    "arguments as a text": '{"name": "f", "arguments": "{}"}',
    "two names": '{"name": "f", "name": "g"}',
    "two of arguments": '{"name": "f", "arguments": {}, "parameters": {}}',
    "no colon": '{"name" "f"}',
    "nothing": "{}",
    "another bracket": '{"name": "f"]',
}


@pytest.mark.parametrize("call", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("reader", [Tagged, Listed])
def test_what_begins_like_a_call_and_is_none_is_an_error(reader: Callable[[], Reader], call: str) -> None:
    """Half of it may have been told already: nothing else can be made of it."""
    opening = OPEN if reader is Tagged else "["
    for texts in ([opening + call], list(opening + call)):
        with pytest.raises(UnfitAnswer):
            pieces(reader(), texts)


@pytest.mark.parametrize("text", ["", "Hello", "5", "[", "[]", '[{"name": "f"}', '[{"name": "f"}] and', "[1]"])
def test_a_list_that_is_none_is_an_error(text: str) -> None:
    """A call was wanted, and this is none."""
    with pytest.raises(UnfitAnswer):
        pieces(Listed(), [text])


def test_an_answer_cut_short_is_given_as_far_as_it_came() -> None:
    """By its limit of tokens: its finish reason says so."""
    text = '[{"name": "f", "arguments": {"a": "b'
    assert pieces(Listed(), [text], is_cut=True) == [Named(0, "f"), Argued(0, '{"a": "b')]
    assert pieces(Tagged(), [OPEN + text[1:]], is_cut=True) == [Named(0, "f"), Argued(0, '{"a": "b')]
    assert pieces(Tagged(), [f"{OPEN}{written(('f', {}))}{CLOSE}\n<tool_"], is_cut=True) == [
        Named(0, "f"),
        Argued(0, "{}"),
    ]
