"""Bytes -> a JSON object: what is refused, with which words, and how long that may take."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.wire import body, ollama, openai_chat, openai_completions, openai_embeddings

DECODERS = (
    openai_chat.decode,
    openai_completions.decode,
    openai_embeddings.decode,
    ollama.decode_chat,
    ollama.decode_generate,
    ollama.decode_embed,
    ollama.decode_embeddings,
    ollama.decode_show,
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)


@given(OBJECTS, st.booleans())
def test_every_object_is_read_as_it_was_written(value: dict[str, object], ascii_only: bool) -> None:
    """Strings stay byte-exact, escaped or not: no trimming, no normalisation."""
    assert body.decode(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_refusal(data: bytes) -> None:
    """Nothing but `InvalidRequest` ever comes out of a bad body."""
    for read in (body.decode, *DECODERS):
        try:
            read(data)
        except InvalidRequest as error:
            str(error).encode()
            (error.param or "").encode()


@given(OBJECTS)
def test_any_object_is_a_request_or_a_refusal(value: dict[str, object]) -> None:
    """Nothing but `InvalidRequest` ever comes out of a body of the wrong shape."""
    for known in ({"messages": [value]}, {"prompt": value}, {"input": value}):
        for read in DECODERS:
            with contextlib.suppress(InvalidRequest):
                read(json.dumps(value | {"model": "m"} | known).encode())


BAD = {
    "empty": (b"", "invalid_json", "not valid JSON"),
    "blank": (b"  \n", "invalid_json", "not valid JSON"),
    "cut": (b'{"a": ', "invalid_json", "line 1, column 7"),
    "trailing": (b"{} {}", "invalid_json", "Extra data at line 1, column 4"),
    "single quotes": (b"{'a': 1}", "invalid_json", "property name"),
    "comma": (b'{"a": 1,}', "invalid_json", "not valid JSON"),
    "raw newline in a string": (b'{"a": "\n"}', "invalid_json", "control character"),
    "raw NUL in a string": (b'{"a": "\x00"}', "invalid_json", "control character"),
    "array": (b"[]", "invalid_json", "must be a JSON object"),
    "string": (b'"a"', "invalid_json", "must be a JSON object"),
    "null": (b"null", "invalid_json", "must be a JSON object"),
    "BOM": (b"\xef\xbb\xbf{}", "invalid_json", "BOM"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "invalid_utf8", "byte 0 (0xff)"),
    "latin-1": (b'{"a": "\xe9"}', "invalid_utf8", "byte 7 (0xe9)"),
    "overlong": (b'{"a": "\xc0\xaf"}', "invalid_utf8", "not valid UTF-8"),
    "surrogates as UTF-8": (b'{"a": "\xed\xa0\x80"}', "invalid_utf8", "not valid UTF-8"),
    "high surrogate": (rb'{"a": "\ud83d"}', "invalid_unicode", "surrogate pair"),
    "low surrogate": (rb'{"a": "\ude00"}', "invalid_unicode", "surrogate pair"),
    "surrogates in the wrong order": (rb'{"a": "\ude00\ud83d"}', "invalid_unicode", "surrogate pair"),
    "surrogate in a name": (rb'{"\uDBFF": 1}', "invalid_unicode", "surrogate pair"),
    "NaN": (b'{"a": NaN}', "invalid_json", "NaN is not JSON"),
    "Infinity": (b'{"a": -Infinity}', "invalid_json", "-Infinity is not JSON"),
    "1e999": (b'{"a": 1e999}', "invalid_json", "1e999 is too large"),
    "many digits": (b'{"a": ' + b"9" * 5000 + b"}", "invalid_json", "too many digits"),
    "101 levels": (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", "nesting_too_deep", "deeper than 100"),
    "150 levels alone": (b'{"a":' + b"[" * 149 + b"]" * 149 + b"}", "nesting_too_deep", "deeper than 100"),
    "10 000 levels": (b"[" * 10_000, "nesting_too_deep", "deeper than 100"),
    "a million objects": (b'{"a":' * 1_000_000, "nesting_too_deep", "deeper than 100"),
    "twice": (b'{"a": 1, "b": 2, "a": 1}', "duplicate_key", "'a' occurs twice"),
    "twice, escaped": (rb'{"a": 1, "\u0061": 2}', "duplicate_key", "'a' occurs twice"),
    "twice, nested": (b'{"x": [{"b": 1, "b": 1}]}', "duplicate_key", "'b' occurs twice"),
    "twice half a character": (rb'{"\ud800": 1, "\ud800": 2}', "duplicate_key", "occurs twice"),
}


@pytest.mark.parametrize(("data", "code", "words"), BAD.values(), ids=BAD)
def test_a_bad_body_is_refused_in_words_that_help(data: bytes, code: str, words: str) -> None:
    """Each has a code, a sentence, and a parameter that can be sent back."""
    with pytest.raises(InvalidRequest) as caught:
        body.decode(data)
    assert caught.value.code == code
    assert words in str(caught.value)
    json.dumps([str(caught.value), caught.value.param], ensure_ascii=False).encode()


def test_whole_pairs_and_escaped_backslashes_are_fine() -> None:
    """What only looks like half a character is not refused."""
    assert body.decode(rb'{"a": "\ud83d\ude00", "b": "\\ud800"}') == {"a": "😀", "b": "\\ud800"}


def test_brackets_in_strings_do_not_nest() -> None:
    """Neither do those behind escaped quotes."""
    text = '[{"' * 500
    assert body.decode(json.dumps({"a": text}).encode()) == {"a": text}


def test_a_hundred_levels_are_allowed() -> None:
    """The limit is where the message says it is, however many brackets there are."""
    wide = b",".join([b"[]"] * 300)
    for more in (b"1", wide):
        assert body.decode(b'{"a":' + b"[" * 98 + b"[" + more.replace(b"[]", b"1") + b"]" + b"]" * 98 + b"}")


HUGE = {
    "one unterminated string of escaped quotes": b'{"a":[' + b"[]," * 300 + b'"' + b'\\"' * 1_000_000,
    "many names, the last one twice": b"{" + b",".join(b'"a%d":1' % i for i in range(200_000)) + b',"x":1,"x":1}',
    "a name of a million letters twice": b'{"%s":1,"%s":1}' % (b"a" * 1_000_000, b"a" * 1_000_000),
    "closing brackets": b'{"a":[' + b"[]," * 300 + b"]" * 1_000_000,
}


@pytest.mark.parametrize("data", HUGE.values(), ids=HUGE)
def test_no_body_takes_more_than_linear_time(data: bytes) -> None:
    """A few megabytes are refused at once, with a short message: nobody can stop the event loop with a request."""
    started = time.process_time()
    with pytest.raises(InvalidRequest) as caught:
        body.decode(data)
    assert time.process_time() - started < 3
    assert len(str(caught.value)) < 300
    assert len(caught.value.param or "") < 100
