"""What is kept of which model for which tenant, and how long: settings -> the policy of one request."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from gateway.canonical import Request
from gateway.config import PolicyConfig, SemanticMode
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


class Nearness(msgspec.Struct, frozen=True, kw_only=True):
    """On what terms a request may be given what is kept of one that means the same."""

    mode: SemanticMode
    threshold: float
    judge: str
    deadline_s: float


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy and a request's own wishes come to, for this one request."""

    look: bool
    """Whether a kept answer may be given."""
    keep: bool
    max_age_s: float | None
    max_bytes: int
    near: Nearness | None = None
    """None where only an equal question counts."""


def terms(policy: PolicyConfig, request: Request, steering: Steering) -> Terms:
    """What holds for `request`: the stricter of what the policy and the client say."""
    out = request.kind != "embedding" and not policy.keep_sampled and is_sampled(request.params)
    ages = [age for age in (policy.ttl_s, steering.max_age_s) if age is not None]
    look = not (steering.no_cache or out)
    return Terms(
        look=look,
        keep=not (steering.no_store or out),
        max_age_s=min(ages, default=None),
        max_bytes=policy.max_answer_bytes,
        near=_nearness(policy, request, steering) if look else None,
    )


def _nearness(policy: PolicyConfig, request: Request, steering: Steering) -> Nearness | None:
    """A request chooses whether, and never how near. What is said of a chunk of a text is about that chunk alone."""
    mode = steering.semantic or policy.semantic
    if mode == "off" or request.kind == "embedding" or request.extraction is not None:
        return None
    return Nearness(
        mode=mode,
        threshold=policy.semantic_threshold,
        judge=policy.semantic_judge,
        deadline_s=policy.semantic_deadline_s,
    )
