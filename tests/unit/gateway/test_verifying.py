"""What `askonce verify` shows, and its status."""

import copy
from typing import Any

import pytest

from gateway.verifying.picture import picture
from gateway.verifying.tally import Tally

ALTERNATIVE: dict[str, Any] = {
    "text": "", "token_id": None, "token": None, "logprob": None, "other_logprob": None, "finish_reason": None,
}  # fmt: skip
PROOF: dict[str, Any] = {
    "outcome": "diverged",
    "key": "3a" * 32,
    "model": "m",
    "compared": "tokens",
    "choices": [{"tokens": [9, 9]}],
    "divergence": {
        "choice": 0, "where": "content", "token": 5, "character": 25, "before": "The capital of France is ",
        "then": ALTERNATIVE | {"text": "Paris.", "token_id": 812, "token": "Paris", "logprob": -0.105360516},
        "now": ALTERNATIVE | {"text": "Lyon.", "token_id": 99, "token": "Lyon", "other_logprob": -1.609437912},
    },
    "notes": ["Another version of the engine answers now."],
    "reproducible": True,
    "kept": True,
}  # fmt: skip


def test_a_divergence_is_a_picture() -> None:
    """The end of what both say, and how each goes on."""
    assert picture(PROOF) == [
        f"diverged   {'3a' * 32}  m, 9 tokens compared",
        "    token 5 and character 25 of the content",
        "    ",
        "    The capital of France is ┬ then: Paris.",
        "                             └ now:  Lyon.",
        "    ",
        "    then: token 812 'Paris', 90 % likely",
        "    now:  token 99 'Lyon', the other's 20 %",
        "    ! Another version of the engine answers now.",
    ]


def test_an_identical_answer_is_a_line() -> None:
    """And what could not be kept is said."""
    proof = PROOF | {"outcome": "identical", "divergence": None, "notes": []}
    assert picture(proof) == [f"identical  {'3a' * 32}  m, 9 tokens compared"]
    assert picture(proof | {"kept": False})[1:] == ["    ! The outcome could not be kept with the answer."]


def test_what_models_say_leaves_the_terminal_alone() -> None:
    """No control character gets through, and wide ones take their two places."""
    proof = copy.deepcopy(PROOF)
    proof["divergence"]["before"] = "漢\x1b[2J\n"
    proof["divergence"]["then"]["text"] = "\x9b31mred\r\n"
    lines = picture(proof)
    assert lines[3:5] == ["    漢\\x1b[2J\\n┬ then: \\x9b31mred\\r\\n", "               └ now:  Lyon."]
    assert all(line.isprintable() for line in lines)


def test_an_end_and_a_vector_have_pictures() -> None:
    """In their own words."""
    proof = copy.deepcopy(PROOF)
    end = ALTERNATIVE | {"finish_reason": "stop"}
    proof["divergence"] |= {"where": "finish_reason", "token": None, "character": None, "then": end}
    assert picture(proof)[1] == "    the reason for the end"
    assert picture(proof)[3].endswith("┬ then: [ends: stop]")
    where = {"dimension": 3, "then": 0.5, "now": 0.25, "dimensions": [8, 8], "max_difference": 0.25, "cosine": 0.9}
    assert picture(PROOF | {"compared": "vector", "divergence": where})[1] == (
        "    dimension 3: 0.5 then, 0.25 now; largest difference 0.25, cosine 0.900000000"
    )
    assert picture(PROOF | {"compared": "vector", "divergence": where | {"dimensions": [8, 4]}})[1] == (
        "    8 dimensions then, 4 now"
    )


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], 0),
        (["identical", "gone"], 2),
        (["gone", "diverged"], 1),
        (["identical", "diverged"], 1),
        (["sampled"], 1),
        (["failed", "diverged"], 1),
        (["identical", "failed"], 2),
    ],
)
def test_the_status_says_what_matters_most(results: list[Any], status: int) -> None:
    """1 when something diverged, 2 when something could not be verified."""
    tally = Tally()
    for result in results:
        tally.add("m", result)
    assert tally.status == status


def test_the_table_has_a_row_for_each_model() -> None:
    """What was drawn by lot is counted apart."""
    tally = Tally()
    tally.proved(PROOF | {"model": "b"})
    tally.proved(PROOF | {"model": "a", "reproducible": False})
    tally.proved(PROOF | {"model": "a", "outcome": "identical", "reproducible": False})
    tally.add("a", "failed")
    assert [line.split() for line in tally.table] == [
        ["MODEL", "IDENTICAL", "DIVERGED", "SAMPLED", "GONE", "FAILED"],
        ["a", "1", "0", "1", "0", "1"],
        ["b", "0", "1", "0", "0", "0"],
    ]
    assert tally.line == "1 identical, 1 diverged, 1 sampled, 1 failed"
