"""What a request's headers wish, and what a policy makes of it."""

from typing import Any

import pytest
from litestar.datastructures import Headers

from gateway import policy, steering
from gateway.canonical import Request
from gateway.config import PolicyConfig
from gateway.errors import InvalidRequest
from gateway.steering import Steering


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("", Steering()),
        ("no-cache", Steering(no_cache=True)),
        ("No-Cache , NO-STORE", Steering(no_cache=True, no_store=True)),
        ("max-age=60", Steering(max_age_s=60)),
        ('max-age="0", only-if-cached', Steering(max_age_s=0, only_if_cached=True)),
        ("max-age=9, max-age=10", Steering(max_age_s=9)),
        (f"max-age={'9' * 400}", Steering(max_age_s=2**31)),
        ("no-transform, private, foo=bar, ,", Steering()),
    ],
)
def test_directives_have_one_meaning_each(said: str, meant: Steering) -> None:
    """Those nobody here knows have none."""
    assert steering.read(Headers({"cache-control": said})) == meant


def test_a_header_may_come_twice() -> None:
    """Its lines are one list."""
    twice = Headers.from_scope({"headers": [(b"cache-control", b"max-age=5"), (b"cache-control", b"no-store")]})
    assert steering.read(twice) == Steering(max_age_s=5, no_store=True)


@pytest.mark.parametrize("said", ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "no-cache, only-if-cached"])
def test_what_cannot_be_meant_is_refused(said: str) -> None:
    """With the header's name."""
    with pytest.raises(InvalidRequest) as caught:
        steering.read(Headers({"cache-control": said}))
    assert caught.value.param == "cache-control"


def test_tags_are_words() -> None:
    """In no order, each once; nothing else is one."""
    assert steering.read(Headers({"x-askonce-tags": "b, a,,a"})).tags == ("a", "b")
    for odd in ("a b", "é", "x" * 65, ",".join(map(str, range(17))), "a\x00"):
        with pytest.raises(InvalidRequest):
            steering.read(Headers({"x-askonce-tags": odd}))


def asked(kind: Any = "chat", **params: Any) -> Request:
    """A request with these parameters."""
    return Request(kind=kind, model="m", prompt={}, params=params, extra={})


def test_the_first_policy_that_fits_counts() -> None:
    """By tenant and model, patterns allowed."""
    policies = [
        PolicyConfig(tenant="acme", model="gemma*", ttl_s=1),
        PolicyConfig(tenant="shared/*", ttl_s=2),
        PolicyConfig(model="gemma-3", ttl_s=3),
    ]
    found = [policy.of(policies, *who).ttl_s for who in (("acme", "gemma-3"), ("shared/x", "m"), ("b", "gemma-3"))]
    assert found == [1, 2, 3]
    assert policy.of(policies, "b", "other") == PolicyConfig()


@pytest.mark.parametrize(
    ("params", "sampled"),
    [({}, True), ({"temperature": 1}, True), ({"temperature": 0}, False), ({"temperature": 1, "seed": 0}, False)],
)
def test_sampled_answers_are_kept_unless_the_policy_says_otherwise(params: dict[str, Any], sampled: bool) -> None:
    """Without a temperature OpenAI's is 1. A seed makes an answer one that can be had again."""
    kept = policy.terms(PolicyConfig(), asked(**params), Steering())
    assert (kept.look, kept.keep) == (True, True)
    strict = policy.terms(PolicyConfig(keep_sampled=False), asked(**params), Steering())
    assert (strict.look, strict.keep) == (not sampled, not sampled)
    vector = policy.terms(PolicyConfig(keep_sampled=False), asked("embedding"), Steering())
    assert vector.keep


def test_the_shorter_life_counts() -> None:
    """The policy's, or the one the client wishes."""
    for ttl_s, max_age_s, shortest in ((5, None, 5), (None, 7, 7), (5, 7, 5), (9, 7, 7), (None, None, None)):
        terms = policy.terms(PolicyConfig(ttl_s=ttl_s), asked(), Steering(max_age_s=max_age_s))
        assert terms.max_age_s == shortest
