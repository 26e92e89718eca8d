"""A recipe and what was said: what became of it, and what can be used."""

import json
from typing import Any

import pytest

from extractors.judging import Judge, Judged, best
from extractors.recipe import from_data

RECIPE = from_data(
    {
        "description": "Extract.",
        "classes": {"drug": {"dose": {"type": "string"}, "days": {"type": "integer"}}, "condition": {}},
    }
)


def judged(*items: dict[str, Any], finish: str = "stop") -> Judged:
    """What comes of these items."""
    return Judge(RECIPE).judge(json.dumps({"extractions": list(items)}), finish)


def test_what_is_as_it_should_be_is_good() -> None:
    """Every record, and nothing to complain of."""
    found = judged(
        {"drug": "x", "drug_attributes": {"dose": "1", "days": 2}}, {"condition": "y", "condition_attributes": {}}
    )
    assert (found.status, found.fits, found.problems, found.is_good) == ("ok", (True, True), (), True)
    assert judged().status == "empty"


def test_what_is_not_said_of_a_record_is_not_held_against_it() -> None:
    """Models that are not held to a schema leave out what they do not know."""
    assert judged({"drug": "x", "drug_attributes": {"dose": "1"}}).fits == (True,)
    assert judged({"drug": "x"}).status == "ok"


@pytest.mark.parametrize(
    ("attributes", "word"), [({"dose": 5}, "dose"), ({"days": "two"}, "days"), ({"colour": "red"}, "colour")]
)
def test_attributes_that_do_not_fit_are_told_and_the_record_is_kept(attributes: dict[str, Any], word: str) -> None:
    """It may be of use, and says that it does not fit."""
    found = judged({"drug": "x", "drug_attributes": attributes}, {"condition": "y", "condition_attributes": {}})
    assert (found.status, found.fits, len(found.said)) == ("invalid", (False, True), 2)
    assert word in found.complaint
    assert '"x"' in found.complaint


def test_a_class_that_the_recipe_has_not_is_left_out_and_told() -> None:
    """With those that it has."""
    found = judged({"person": "Ann", "person_attributes": {}}, {"condition": "y", "condition_attributes": {}})
    assert ([said.name for said in found.said], found.status) == (["condition"], "invalid")
    assert "'person'" in found.complaint
    assert "drug, condition" in found.complaint


def test_a_complaint_has_an_end() -> None:
    """However much is wrong."""
    found = judged(*[{"drug": "x" * 500, "drug_attributes": {"dose": number}} for number in range(500)])
    assert len(found.problems) == 500
    assert len(found.complaint) < 3000


def test_the_best_try_is_the_good_one_or_has_the_most_that_fits() -> None:
    """The later of equals."""
    fits, bad = {"drug": "x", "drug_attributes": {}}, {"drug": "x", "drug_attributes": {"dose": 1}}
    tries = [judged(fits, fits, bad), judged(fits, bad), judged(bad)]
    assert best(tries) == 0
    assert best([*tries, judged(fits)]) == 3
    assert best([judged(bad), judged(bad)]) == 1
    assert best([judged(), judged(fits, fits, bad)]) == 0
