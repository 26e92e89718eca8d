"""What is kept of which model for which tenant, and how long: settings -> the policy of one request."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from gateway.canonical import Request
from gateway.config import PolicyConfig
from gateway.steering import Steering

KEEP_EVERYTHING: Final = PolicyConfig()


def of(policies: Sequence[PolicyConfig], tenant: str, model: str) -> PolicyConfig:
    """The first of `policies` that names this tenant and model, patterns allowed; the default one when none does."""
    for policy in policies:
        if fnmatchcase(tenant, policy.tenant) and fnmatchcase(model, policy.model):
            return policy
    return KEEP_EVERYTHING


def is_sampled(params: dict[str, Any]) -> bool:
    """Whether asking again would give another answer: a temperature above zero, and no seed."""
    return params.get("temperature", 1) > 0 and params.get("seed") is None


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy and a request's own wishes come to, for this one request."""

    look: bool
    """Whether a kept answer may be given."""
    keep: bool
    max_age_s: float | None
    max_bytes: int


def terms(policy: PolicyConfig, request: Request, steering: Steering) -> Terms:
    """What holds for `request`: the stricter of what the policy and the client say."""
    out = request.kind != "embedding" and not policy.keep_sampled and is_sampled(request.params)
    ages = [age for age in (policy.ttl_s, steering.max_age_s) if age is not None]
    return Terms(
        look=not (steering.no_cache or out),
        keep=not (steering.no_store or out),
        max_age_s=min(ages, default=None),
        max_bytes=policy.max_answer_bytes,
    )
