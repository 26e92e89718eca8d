"""Which policy fits a request: patterns as docs/steering.md describes them."""

import pytest

from gateway import policy
from gateway.config import PolicyConfig


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("gemma-*", ["gemma-", "gemma-3"], ["Gemma-3", "a-gemma-3"]),
        ("m?", ["m1"], ["m", "m12"]),
        ("m[1-3]", ["m1", "m3"], ["m4", "m[1-3]"]),
        ("m[!1]", ["m2"], ["m1"]),
        ("m[[]1]", ["m[1]"], ["m1"]),
    ],
)
def test_a_pattern_fits_what_the_page_says(pattern: str, fits: list[str], others: list[str]) -> None:
    """Brackets included."""
    policies = [PolicyConfig(model=pattern, ttl_s=1)]
    assert all(policy.of(policies, "acme", model).ttl_s == 1 for model in fits)
    assert all(policy.of(policies, "acme", model).ttl_s is None for model in others)
