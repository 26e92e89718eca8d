"""What is told of semantic reuse: how often it would have answered, and how often wrongly."""

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.trials.picture import svg
from gateway.trials.report import lines, wilson
from storage.trials import Outcome


def outcome(similarity: float | None = 0.95, **more: Any) -> Outcome:
    """One that would have been served."""
    found: dict[str, Any] = {
        "reasons": (),
        "judged_same": None,
        "same_answer": False,
        "answers_similarity": None,
        "label": None,
    }
    return Outcome(similarity=similarity, **(found | more))


OUTCOMES = st.builds(
    lambda similarity, near, label, reasons, said: outcome(
        similarity, answers_similarity=near, label=label, reasons=reasons, judged_same=said
    ),
    st.one_of(st.none(), st.floats(0.5, 1)),
    st.one_of(st.none(), st.floats(-1, 1)),
    st.sampled_from([None, "same", "different"]),
    st.sampled_from([(), ("negation",)]),
    st.sampled_from([None, True, False]),
)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (1, 200, 0.0009, 0.0278), (7, 7, 0.6457, 1)],
)
def test_intervals_are_wilsons(hits: int, of: int, low: float, high: float) -> None:
    """Those of the literature."""
    assert wilson(hits, of) == pytest.approx((low, high), abs=1e-4)


@given(st.lists(OUTCOMES, max_size=30))
def test_a_higher_threshold_serves_no_more(found: list[Outcome]) -> None:
    """And the share of false hits lies within its interval."""
    told = lines(found)
    assert [line.served for line in told] == sorted((line.served for line in told), reverse=True)
    for line in told:
        assert line.false <= line.judged <= line.served <= line.asked == len(found)
        if line.rate is not None:
            assert line.low is not None
            assert line.high is not None
            assert line.low <= line.rate <= line.high
    ElementTree.fromstring(svg("<a> & b", told, 0.005))


def test_a_judge_overrules_words_alone() -> None:
    """A synonym is for a model to know; a number or a name is for nobody to overrule."""
    found = [outcome(reasons=reasons, judged_same=True) for reasons in (("words",), ("name", "words"))]
    found.append(outcome(reasons=("words",)))
    assert [line.served for line in lines(found, 0.9, [0.9])] == [1]


@pytest.mark.parametrize(
    ("more", "judged", "false"),
    [
        ({"label": "different", "same_answer": True}, 1, 1),
        ({"label": "same", "answers_similarity": 0.1}, 1, 0),
        ({"same_answer": True}, 1, 0),
        ({"answers_similarity": 0.95}, 1, 0),
        ({"answers_similarity": 0.5}, 1, 1),
        ({}, 0, 0),
    ],
)
def test_a_label_counts_before_the_answers(more: dict[str, Any], judged: int, false: int) -> None:
    """What nobody and nothing judges is no hit of either sort."""
    [line] = lines([outcome(**more)], 0.9, [0.9])
    assert (line.served, line.judged, line.false) == (1, judged, false)


@pytest.mark.parametrize(
    "more", [{"reasons": ("name",)}, {"judged_same": False}, {"similarity": None}, {"similarity": 0.89}]
)
def test_what_is_refused_is_not_served(more: dict[str, Any]) -> None:
    """By the guard, by the judge, or because it is too far away."""
    [line] = lines([outcome(**more)], 0.9, [0.9])
    assert (line.served, line.asked) == (0, 1)
