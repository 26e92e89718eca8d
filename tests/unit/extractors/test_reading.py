"""What models say instead of the JSON object that they are asked for: read as far as it can be, told as it is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.reading import Said, read

DRUG: dict[str, Any] = {"drug": "aspirin", "drug_attributes": {"dose": "100 mg"}}
OTHER: dict[str, Any] = {"drug": "ibuprofen", "drug_attributes": {}}
ASPIRIN, IBUPROFEN = Said("drug", "aspirin", {"dose": "100 mg"}, 0), Said("drug", "ibuprofen", {}, 1)
BOTH = json.dumps({"extractions": [DRUG, OTHER]})


def framed(*items: Any) -> str:
    """As it should be."""
    return json.dumps({"extractions": items})


READ: dict[str, tuple[str, str, tuple[Said, ...], str]] = {
    "as it should be": (BOTH, "ok", (ASPIRIN, IBUPROFEN), ""),
    "nothing to extract": (framed(), "empty", (), ""),
    "fenced": (f"```json\n{BOTH}\n```", "ok", (ASPIRIN, IBUPROFEN), ""),
    "a fence that never ends": (f"```json\n{BOTH}", "ok", (ASPIRIN, IBUPROFEN), ""),
    "two fences": (
        f"```json\n{framed(DRUG)}\n```\nand\n```json\n{framed(OTHER)}\n```",
        "ok",
        (ASPIRIN, IBUPROFEN),
        "2 blocks of JSON",
    ),
    "words before and after": (
        f"Here you are:\n{BOTH}\nI hope this helps!",
        "ok",
        (ASPIRIN, IBUPROFEN),
        "words beside",
    ),
    "thoughts": (f"<think>aspirin? {{yes}}</think>{BOTH}", "ok", (ASPIRIN, IBUPROFEN), ""),
    "a bare list": (json.dumps([DRUG, OTHER]), "ok", (ASPIRIN, IBUPROFEN), "no frame"),
    "one record": (json.dumps(DRUG), "ok", (ASPIRIN,), "no frame"),
    "a refusal": ("I'm sorry, but I cannot help with medical questions.", "refused", (), "not JSON"),
    "nothing at all": (" \n", "invalid", (), "is empty"),
    "nothing but thoughts": ("<think>hm</think>", "invalid", (), "is empty"),
    "cut in the second record": (BOTH[: BOTH.index("ibup") + 3], "truncated", (ASPIRIN,), "before it is complete"),
    "cut in the first record": (BOTH[: BOTH.index("asp")], "invalid", (), "not JSON"),
    "cut after the bracket": ('{"extractions": [', "truncated", (), "before it is complete"),
    "no JSON in braces": ("{not json}", "invalid", (), "not JSON"),
    "another object's list": ('{"extractions": "none"}', "invalid", (), "not JSON"),
    "class and text in fields": (
        framed({"extraction_class": "drug", "extraction_text": "aspirin", "attributes": {"dose": "100 mg"}}),
        "ok",
        (ASPIRIN,),
        "fields of their own",
    ),
    "a colon in a name": (framed({"drug": "aspirin", "drug_attributes:": {"dose": "100 mg"}}), "ok", (ASPIRIN,), ""),
    "no attributes": (framed({"drug": "aspirin"}), "ok", (Said("drug", "aspirin"),), "no 'drug_attributes'"),
    "null attributes": (framed({"drug": "aspirin", "drug_attributes": None}), "ok", (Said("drug", "aspirin"),), ""),
    "two classes in one item": (
        framed({"drug": "aspirin", "drug_attributes": {}, "dose": "100 mg", "dose_attributes": {}}),
        "ok",
        (Said("drug", "aspirin", {}), Said("dose", "100 mg", {})),
        "",
    ),
    "a number": (framed({"dose": 100, "dose_attributes": {}}), "ok", (Said("dose", "100", {}),), ""),
    "null for words": (framed({"drug": None}, OTHER), "invalid", (IBUPROFEN,), "Item 1 has null as 'drug'"),
    "no words": (framed({"drug": " "}, OTHER), "invalid", (IBUPROFEN,), "Item 1 has no words as 'drug'"),
    "a list for words": (framed(DRUG, {"drug": ["a"]}), "invalid", (ASPIRIN,), "Item 2 has a list as 'drug'"),
    "a word for attributes": (
        framed(DRUG, {"drug": "a", "drug_attributes": "b"}),
        "invalid",
        (ASPIRIN,),
        "Item 2 has a string as 'drug_attributes'",
    ),
    "attributes alone": (framed(DRUG, {"drug_attributes": {}}), "invalid", (ASPIRIN,), "Item 2 names no class"),
    "a string for an item": (framed(DRUG, "aspirin"), "invalid", (ASPIRIN,), "Item 2 is a string, not an object"),
    "a name twice": (
        '{"extractions": [{"drug": "x", "drug": "aspirin", "drug_attributes": {"dose": "100 mg"}}]}',
        "ok",
        (ASPIRIN,),
        "'drug' is there twice",
    ),
    "NaN": (
        '{"extractions": [{"drug": "aspirin", "drug_attributes": {"dose": NaN}}]}',
        "ok",
        (Said("drug", "aspirin", {"dose": None}),),
        "'NaN' is not JSON",
    ),
    "NUL": (framed({"drug": "a\x00b"}, OTHER), "invalid", (IBUPROFEN,), "characters as 'drug' that no text has"),
    "half a pair": (
        framed({"drug": "\ud800"}, OTHER),
        "invalid",
        (IBUPROFEN,),
        "characters as 'drug' that no text has",
    ),
    "two objects": (json.dumps(DRUG) + "\n" + json.dumps(OTHER), "ok", (ASPIRIN, IBUPROFEN), "2 JSON objects"),
    "brackets before": (f"See [1] here: {BOTH}", "ok", (ASPIRIN, IBUPROFEN), "words beside"),
    "the end of thoughts": (f"aspirin? [1] maybe</think>{BOTH}", "ok", (ASPIRIN, IBUPROFEN), ""),
    "thoughts without end": (f"<think>[] maybe {BOTH}", "invalid", (), "is empty"),
    "thoughts that are words": (
        framed({"drug": "<think>b</think>", "drug_attributes": {}}),
        "ok",
        (Said("drug", "<think>b</think>", {}),),
        "",
    ),
    "a path that looks like NUL": (
        framed({"drug": "C:\\u0000", "drug_attributes": {}}),
        "ok",
        (Said("drug", "C:\\u0000", {}),),
        "",
    ),
    "NUL in a class": (framed({"a\x00": "b"}, OTHER), "invalid", (IBUPROFEN,), "characters as 'a class'"),
    "a number beyond all": ('{"extractions": [{"dose": 1e999}]}', "invalid", (), "no words as 'dose'"),
    "NUL in attributes": (
        framed({"drug": "a", "drug_attributes": {"x": "\x00"}}, OTHER),
        "invalid",
        (IBUPROFEN,),
        "characters as 'drug_attributes' that no text has",
    ),
}


@pytest.mark.parametrize(("text", "status", "said", "problem"), READ.values(), ids=READ)
def test_it_is_read(text: str, status: str, said: tuple[Said, ...], problem: str) -> None:
    """What was said, how it ended, and what was wrong with it."""
    found = read(text, "stop")
    assert (found.status, found.said) == (status, said)
    assert problem in " ".join(found.problems)
    assert bool(problem) == bool(found.problems)


def test_what_was_cut_by_its_length_says_so() -> None:
    """Also where it happens to be whole, and where nothing of it can be read."""
    assert read(BOTH, "length").status == "truncated"
    assert read(BOTH, "length").said == (ASPIRIN, IBUPROFEN)
    assert read(BOTH[: BOTH.index("asp")], "length").status == "truncated"
    assert read("The drugs are", "length").status == "truncated"


@given(st.integers(0, len(BOTH)))
def test_wherever_it_is_cut_what_is_complete_is_read(at: int) -> None:
    """And nothing is made up."""
    found = read(BOTH[:at], "length")
    assert found.said == (ASPIRIN, IBUPROFEN)[: BOTH[:at].count("}}") + BOTH[:at].count("{}}")]
    assert found.status == ("invalid" if at == 0 else "truncated")


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    """Something is said of it."""
    found = read(text)
    assert found.said or found.status != "ok"


@pytest.mark.parametrize(
    "part", ["<think>", "</think>", "```\n", "```", "{", "[", '{"a":', "[1,", "\\", '"', "``` ", "[]", "</think>[]"]
)
def test_no_text_takes_long(part: str) -> None:
    """However often something begins that never ends."""
    assert read(part * 100_000).status != "ok"


@pytest.mark.parametrize("depth", [10, 100_000])
def test_depth_is_no_harm(depth: int) -> None:
    """However deep it goes."""
    assert read('{"extractions": ' + "[" * depth).status in ("invalid", "truncated")
